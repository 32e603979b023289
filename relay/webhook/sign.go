package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dot-do/relay/internal/secret"
)

// Names of the headers that every request carries, and how old a request Verify
// accepts.
const (
	HeaderID           = "Webhook-Id"
	HeaderTimestamp    = "Webhook-Timestamp"
	HeaderSignature    = "Webhook-Signature"
	HeaderHubSignature = "X-Hub-Signature-256"
	HeaderAttempt      = "Webhook-Attempt"

	Tolerance = 5 * time.Minute
)

// maxSignatures bounds the work that a request can ask of Verify.
const maxSignatures = 16

// Errors of Verify. None of them quotes what was received.
var (
	ErrNoSignature  = errors.New("webhook-id, webhook-timestamp or webhook-signature is missing or malformed")
	ErrStale        = errors.New("webhook-timestamp is more than five minutes off")
	ErrBadSignature = errors.New("no signature matches")
)

// signatures returns the webhook-signature header: one signature for each secret,
// newest first, v1 of a shared secret and v1a of a key pair. hub is the
// X-Hub-Signature-256 header of the newest shared secret: a key pair has nothing
// that a receiver could check it with.
func signatures(secrets []secret.String, id string, at time.Time, body []byte) (standard, hub string, err error) {
	var b strings.Builder
	for i, s := range secrets {
		key, err := parseKey(s.Reveal())
		if err != nil {
			return "", "", err
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		switch {
		case key.private != nil:
			b.WriteString("v1a,")
			b.WriteString(base64.StdEncoding.EncodeToString(ed25519.Sign(key.private, signedBytes(id, at.Unix(), body))))
		case key.public != nil:
			return "", "", errPublicKey
		default:
			b.WriteString("v1,")
			b.WriteString(base64.StdEncoding.EncodeToString(standardSum(key.shared, id, at.Unix(), body)))
			if hub == "" {
				hub = hubSignature(s.Reveal(), body)
			}
		}
	}
	return b.String(), hub, nil
}

// standardSum is HMAC-SHA256 over id, timestamp in seconds and body, joined by
// dots.
func standardSum(key []byte, id string, seconds int64, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(signedHead(make([]byte, 0, 64), id, seconds))
	h.Write(body)
	return h.Sum(nil)
}

// signedBytes are what v1a signs: the same bytes, in one piece.
func signedBytes(id string, seconds int64, body []byte) []byte {
	return append(signedHead(make([]byte, 0, len(id)+32+len(body)), id, seconds), body...)
}

func signedHead(head []byte, id string, seconds int64) []byte {
	head = append(head, id...)
	head = append(head, '.')
	head = strconv.AppendInt(head, seconds, 10)
	return append(head, '.')
}

// hubSignature is keyed with the whole secret, whsec_ included.
func hubSignature(s string, body []byte) string {
	h := hmac.New(sha256.New, []byte(s))
	h.Write(body)
	return "sha256=" + hex.EncodeToString(h.Sum(nil))
}

// Verify checks the Standard Webhooks signature of a received request: body is
// what was read, before any parsing. It accepts a request that one of the secrets
// signed within Tolerance of now. A secret may be the public key of a subscription
// that signs with a key pair, whpk_…: that one checks v1a signatures and nothing
// else, as a shared secret checks v1 only. Receivers in other languages use the
// official libraries; this is the same check for receivers written here.
func Verify(secrets []secret.String, header http.Header, body []byte, now time.Time) error {
	id, signature := header.Get(HeaderID), header.Get(HeaderSignature)
	seconds, err := strconv.ParseInt(header.Get(HeaderTimestamp), 10, 64)
	if id == "" || signature == "" || err != nil {
		return ErrNoSignature
	}
	if age := now.Unix() - seconds; age > int64(Tolerance/time.Second) || age < -int64(Tolerance/time.Second) {
		return ErrStale
	}
	shared, asymmetric := sentSignatures(signature)
	matched := false
	for _, s := range secrets {
		key, err := parseKey(s.Reveal())
		if err != nil {
			return err
		}
		// No early return: the time tells nothing about which one matched.
		if key.public != nil {
			signed := signedBytes(id, seconds, body)
			for _, got := range asymmetric {
				matched = ed25519.Verify(key.public, signed, got) || matched
			}
			continue
		}
		want := standardSum(key.shared, id, seconds, body)
		for _, got := range shared {
			matched = hmac.Equal(got, want) || matched
		}
	}
	if !matched {
		return ErrBadSignature
	}
	return nil
}

// sentSignatures reads the v1 and v1a entries of a webhook-signature header, each
// kind apart. Other versions and malformed entries are passed over, never accepted.
func sentSignatures(header string) (shared, asymmetric [][]byte) {
	for entry := range strings.SplitSeq(header, " ") {
		version, encoded, _ := strings.Cut(entry, ",")
		into, size := &shared, sha256.Size
		switch version {
		case "v1":
		case "v1a":
			into, size = &asymmetric, ed25519.SignatureSize
		default:
			continue
		}
		if len(shared)+len(asymmetric) == maxSignatures {
			break
		}
		sum, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err == nil && len(sum) == size {
			*into = append(*into, sum)
		}
	}
	return shared, asymmetric
}

// masked is what the log keeps of a signature header: its versions.
func masked(standard string) string {
	var b strings.Builder
	for entry := range strings.SplitSeq(standard, " ") {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		version, _, _ := strings.Cut(entry, ",")
		b.WriteString(version + "," + mask)
	}
	return b.String()
}
