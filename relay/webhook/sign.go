package webhook

import (
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

const (
	secretPrefix = "whsec_"
	// minDecodedKey is the shortest key that Standard Webhooks allows. A secret
	// without prefix that decodes to less is taken for a plain password.
	minDecodedKey = 24
	// maxSignatures bounds the work that a request can ask of Verify.
	maxSignatures = 16
)

// Errors of Verify. None of them quotes what was received.
var (
	ErrNoSignature  = errors.New("webhook-id, webhook-timestamp or webhook-signature is missing or malformed")
	ErrStale        = errors.New("webhook-timestamp is more than five minutes off")
	ErrBadSignature = errors.New("no signature matches")
	errEmptySecret  = errors.New("signing secret is empty")
)

// signingKey derives the Standard Webhooks key of a secret: the base64 decoded
// part after whsec_. The official libraries decode a secret without the prefix
// too, so one that decodes to a full key is decoded; every other string is its
// own key, byte for byte.
func signingKey(s string) ([]byte, error) {
	rest, prefixed := strings.CutPrefix(s, secretPrefix)
	if rest == "" {
		return nil, errEmptySecret
	}
	unpadded := strings.TrimRight(rest, "=")
	key, err := base64.RawStdEncoding.DecodeString(unpadded)
	if err == nil && len(key) > 0 && (prefixed || len(key) >= minDecodedKey) {
		return key, nil
	}
	return []byte(rest), nil
}

// signatures returns the webhook-signature header: one v1 signature for each
// secret, newest first, and the X-Hub-Signature-256 header of the newest.
func signatures(secrets []secret.String, id string, at time.Time, body []byte) (standard, hub string, err error) {
	var b strings.Builder
	for i, s := range secrets {
		key, err := signingKey(s.Reveal())
		if err != nil {
			return "", "", err
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("v1,")
		b.WriteString(base64.StdEncoding.EncodeToString(standardSum(key, id, at.Unix(), body)))
	}
	if len(secrets) > 0 {
		hub = hubSignature(secrets[0].Reveal(), body)
	}
	return b.String(), hub, nil
}

// standardSum is HMAC-SHA256 over id, timestamp in seconds and body, joined by
// dots.
func standardSum(key []byte, id string, seconds int64, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	head := make([]byte, 0, 64)
	head = append(head, id...)
	head = append(head, '.')
	head = strconv.AppendInt(head, seconds, 10)
	head = append(head, '.')
	h.Write(head)
	h.Write(body)
	return h.Sum(nil)
}

// hubSignature is keyed with the whole secret, whsec_ included.
func hubSignature(s string, body []byte) string {
	h := hmac.New(sha256.New, []byte(s))
	h.Write(body)
	return "sha256=" + hex.EncodeToString(h.Sum(nil))
}

// Verify checks the Standard Webhooks signature of a received request: body is
// what was read, before any parsing. It accepts a request that one of the secrets
// signed within Tolerance of now. Receivers in other languages use the official
// libraries; this is the same check for receivers written here.
func Verify(secrets []secret.String, header http.Header, body []byte, now time.Time) error {
	id, signature := header.Get(HeaderID), header.Get(HeaderSignature)
	seconds, err := strconv.ParseInt(header.Get(HeaderTimestamp), 10, 64)
	if id == "" || signature == "" || err != nil {
		return ErrNoSignature
	}
	if age := now.Unix() - seconds; age > int64(Tolerance/time.Second) || age < -int64(Tolerance/time.Second) {
		return ErrStale
	}
	sent := sentSignatures(signature)
	matched := false
	for _, s := range secrets {
		key, err := signingKey(s.Reveal())
		if err != nil {
			return err
		}
		want := standardSum(key, id, seconds, body)
		for _, got := range sent {
			// No early return: the time tells nothing about which one matched.
			matched = hmac.Equal(got, want) || matched
		}
	}
	if !matched {
		return ErrBadSignature
	}
	return nil
}

// sentSignatures reads the v1 entries of a webhook-signature header. Other
// versions and malformed entries are passed over, never accepted.
func sentSignatures(header string) [][]byte {
	var out [][]byte
	for entry := range strings.SplitSeq(header, " ") {
		encoded, ok := strings.CutPrefix(entry, "v1,")
		if !ok || len(out) == maxSignatures {
			continue
		}
		sum, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err == nil && len(sum) == sha256.Size {
			out = append(out, sum)
		}
	}
	return out
}
