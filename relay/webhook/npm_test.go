package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
)

// received is a request as an endpoint in another language holds it.
type received struct {
	Library string            `json:"library"`
	Secret  string            `json:"secret"`
	Headers map[string]string `json:"headers"`
	Body    []byte            `json:"body"`
}

// change returns the request with one header replaced, or removed.
func (r received) change(name, value string) received {
	headers := maps.Clone(r.Headers)
	if headers[name] = value; value == "" {
		delete(headers, name)
	}
	r.Headers = headers
	return r
}

// deliver sends a body with the real sender to a real server and returns what came.
func deliver(t *testing.T, body []byte, secretTexts ...string) received {
	t.Helper()
	return deliverTo(t, body, &relay.Subscription{ID: "sub-1", Secrets: secrets(secretTexts...)})
}

func deliverTo(t *testing.T, body []byte, sub *relay.Subscription) received {
	t.Helper()
	got := received{Headers: map[string]string{}}
	sub.TargetURL = serve(t, func(_ http.ResponseWriter, r *http.Request) {
		got.Body, _ = io.ReadAll(r.Body)
		for name := range r.Header {
			got.Headers[strings.ToLower(name)] = r.Header.Get(name)
		}
	})
	a := testSender(t, 5*time.Second).Send(t.Context(), relay.Delivery{EventID: "evt_1", SubscriptionID: sub.ID, Body: body}, sub)
	require.NotNil(t, a)
	require.Empty(t, a.Error)
	require.Equal(t, body, got.Body)
	return got
}

// signedAt is a request that was signed at another time than now.
func signedAt(t *testing.T, at time.Time, body string) received {
	t.Helper()
	out := received{Headers: map[string]string{}, Body: []byte(body)}
	for name, values := range signedHeader(t, at, body, goldenSecret) {
		out.Headers[strings.ToLower(name)] = values[0]
	}
	return out
}

const (
	noMatch  = "No matching signature found"
	tooOld   = "Message timestamp too old"
	tooNew   = "Message timestamp too new"
	noHeader = "Missing required headers"
)

func TestTheOfficialNodeLibrariesVerifyWhatTheSenderSigns(t *testing.T) {
	dir := installVerifier(t)
	const body = `{"text":"ü € 𝄞 \u0000 </script>","n":12345678901234567890,"f":1.0}`
	plain := deliver(t, []byte(body), goldenSecret)
	pretty := deliver(t, []byte("{\r\n\t\"a\" : 1.50 }\n"), goldenSecret)
	large := deliver(t, []byte(`"`+strings.Repeat("x", 1<<20)+`"`), goldenSecret)
	bare := strings.TrimPrefix(goldenSecret, sharedPrefix)
	drawn := NewSharedSecret().Reveal()
	pair, public := NewKeyPair()
	rotated := deliverTo(t, []byte(body), &relay.Subscription{
		ID: "sub-1", Secrets: secrets(drawn),
		Retiring: &relay.RetiringSecret{Secret: secret.New(goldenSecret), Until: time.Now().Add(time.Hour)},
	})
	toKeyPair := deliver(t, []byte(body), pair.Reveal(), goldenSecret)
	keyPair := deliver(t, []byte(body), pair.Reveal())
	tampered := plain
	tampered.Body = []byte(strings.Replace(body, "1.0", "1.1", 1))
	reencoded := plain
	reencoded.Body = []byte(strings.Replace(body, "12345678901234567890", "12345678901234567000", 1)) // what JavaScript makes of it
	now := time.Now()

	var asked []received
	var names, want []string
	ask := func(name, library, secretText string, r received, answer string) {
		r.Library, r.Secret = library, secretText
		asked, names, want = append(asked, r), append(names, library+": "+name), append(want, answer)
	}
	for _, lib := range []string{"standardwebhooks", "svix"} {
		ask("one secret", lib, goldenSecret, plain, "ok")
		ask("a secret without prefix", lib, bare, deliver(t, []byte(body), bare), "ok")
		ask("a secret that the relay drew", lib, drawn, deliver(t, []byte(body), drawn), "ok")
		ask("blanks and line ends in the body", lib, goldenSecret, pretty, "ok")
		ask("a megabyte", lib, goldenSecret, large, "ok")
		ask("in the overlap, the new secret", lib, drawn, rotated, "ok")
		ask("in the overlap, the old secret", lib, goldenSecret, rotated, "ok")
		ask("in the overlap, a stranger's", lib, otherSecret, rotated, noMatch)
		ask("behind a v1a signature", lib, goldenSecret, toKeyPair, "ok")
		ask("v1a alone, which it does not know", lib, goldenSecret, keyPair, noMatch)
		ask("a tampered body", lib, goldenSecret, tampered, noMatch)
		ask("a body that was encoded anew", lib, goldenSecret, reencoded, noMatch)
		ask("another id", lib, goldenSecret, plain.change("webhook-id", "msg_other"), noMatch)
		ask("the wrong secret", lib, otherSecret, plain, noMatch)
		ask("the signature of another version", lib, goldenSecret, plain.change("webhook-signature", "v2"+plain.Headers["webhook-signature"][2:]), noMatch)
		ask("no signature", lib, goldenSecret, plain.change("webhook-signature", ""), noHeader)
		ask("no id", lib, goldenSecret, plain.change("webhook-id", ""), noHeader)
		ask("another timestamp", lib, goldenSecret, signedAt(t, now, body).change("webhook-timestamp", "1700000000"), tooOld)
		ask("signed four minutes ago", lib, goldenSecret, signedAt(t, now.Add(-4*time.Minute), body), "ok")
		ask("signed six minutes ago", lib, goldenSecret, signedAt(t, now.Add(-6*time.Minute), body), tooOld)
		ask("signed in six minutes", lib, goldenSecret, signedAt(t, now.Add(6*time.Minute), body), tooNew)
	}
	ask("the public key", "ed25519", public, keyPair, "ok")
	ask("the public key, of two signatures", "ed25519", public, toKeyPair, "ok")
	ask("another public key", "ed25519", otherPublic, keyPair, noMatch)
	ask("another id", "ed25519", public, keyPair.change("webhook-id", "msg_other"), noMatch)

	answers := runVerifier(t, dir, asked)
	require.Len(t, answers, len(want))
	for i, answer := range answers {
		require.Equal(t, want[i], answer, names[i])
	}
}

// installVerifier installs the libraries of testdata/npm into a directory of the test.
// Continuous integration must have Node and reach the registry; elsewhere the test
// ends where they are missing.
func installVerifier(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("installs packages of npm")
	}
	missing := func(why string) {
		t.Helper()
		if os.Getenv("CI") != "" {
			require.FailNow(t, "the libraries of npm cannot be installed", "CI is set, so this test must run: %s", why)
		}
		t.Skip("the libraries of npm cannot be installed: " + why)
	}
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			missing(err.Error())
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "verify.mjs"} {
		content, err := os.ReadFile(filepath.Join("testdata", "npm", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund",
		"--fetch-retries=1", "--fetch-timeout=20000")
	cmd.Dir, cmd.WaitDelay = dir, 5*time.Second
	out, err := cmd.CombinedOutput()
	unreachable := regexp.MustCompile(`ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|E?TIMEDOUT|ENETUNREACH|EHOSTUNREACH|ENOTCACHED|\bE(401|403|407|5\d\d)\b`)
	if err != nil && (ctx.Err() != nil || unreachable.Match(out)) {
		missing("the registry does not answer: " + string(out))
	}
	require.NoError(t, err, "%s", out)
	return dir
}

// runVerifier has testdata/npm/verify.mjs judge the requests.
func runVerifier(t *testing.T, dir string, asked []received) (answers []string) {
	t.Helper()
	input, err := json.Marshal(asked)
	require.NoError(t, err)
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "node", "verify.mjs")
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, bytes.NewReader(input), &stdout, &stderr
	require.NoError(t, cmd.Run(), "%s", &stderr)
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &answers), "%s", &stdout)
	return answers
}

func TestTheLibrariesOfNpmAreLockedAndNameNoRegistry(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("testdata", "npm", "package-lock.json"))
	require.NoError(t, err)
	var lock struct {
		Packages map[string]struct {
			Version, Resolved, Integrity string
		}
	}
	require.NoError(t, json.Unmarshal(content, &lock))
	require.Equal(t, "1.99.1", lock.Packages["node_modules/svix"].Version)
	require.Equal(t, "1.1.1", lock.Packages["node_modules/standardwebhooks"].Version)
	for name, p := range lock.Packages {
		if name == "" {
			continue
		}
		require.True(t, strings.HasPrefix(p.Integrity, "sha512-"), name)
		require.Truef(t, p.Resolved == "" || strings.HasPrefix(p.Resolved, "https://registry.npmjs.org/"), "%s is locked to %s", name, p.Resolved)
	}
}
