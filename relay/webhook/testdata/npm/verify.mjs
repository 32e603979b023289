// Reads requests from standard input, a JSON list of {library, secret, headers, body},
// verifies each as a receiver would, and prints a list of texts: "ok", or what the
// library threw. The body is base64 of the bytes that arrived.
import { readFileSync } from "node:fs";
import { createPublicKey, verify } from "node:crypto";
import { Webhook as StandardWebhook } from "standardwebhooks";
import { Webhook as SvixWebhook } from "svix";

// The libraries have no ed25519: v1a is checked with what Node itself has, the public
// key wrapped as RFC 8410 says.
class Ed25519Webhook {
  constructor(secret) {
    const raw = Buffer.from(secret.replace(/^whpk_/, ""), "base64");
    const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), raw]);
    this.key = createPublicKey({ key: der, format: "der", type: "spki" });
  }

  verify(body, headers) {
    const head = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.`;
    const signed = Buffer.concat([Buffer.from(head), body]);
    const sent = headers["webhook-signature"].split(" ").filter((s) => s.startsWith("v1a,"));
    if (!sent.some((s) => verify(null, signed, this.key, Buffer.from(s.slice(4), "base64")))) {
      throw new Error("No matching signature found");
    }
  }
}

const libraries = { standardwebhooks: StandardWebhook, svix: SvixWebhook, ed25519: Ed25519Webhook };

const answers = JSON.parse(readFileSync(0, "utf8")).map(({ library, secret, headers, body }) => {
  try {
    new libraries[library](secret).verify(Buffer.from(body, "base64"), headers);
    return "ok";
  } catch (err) {
    return err.message;
  }
});
process.stdout.write(JSON.stringify(answers));
