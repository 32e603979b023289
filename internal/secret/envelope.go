package secret

import (
	"encoding/base64"
	"errors"
	"strings"
)

// prefix opens every envelope. The version names the cipher and the layout.
const prefix = "enc:v1:"

const (
	nonceSize = 12 // of AES-GCM
	tagSize   = 16
	// maxEnvelope bounds what Open decodes; signing secrets are under 200 bytes.
	maxEnvelope = 64 << 10
)

// ErrNotEnvelope is returned by Open for text that is no well-formed envelope,
// such as a secret still in plain text.
var ErrNotEnvelope = errors.New("not a sealed secret of the form " + prefix + "<key id>:<nonce>:<ciphertext>")

// encoding is strict, so that one envelope has one spelling only.
func encoding() *base64.Encoding { return base64.RawURLEncoding.Strict() }

// IsEnvelope reports whether text is, by its prefix, meant to be an envelope. It
// decides whether a stored secret is still plain and has to be sealed; a damaged
// envelope must not be taken for a plain secret, so nothing else is looked at.
func IsEnvelope(text string) bool { return strings.HasPrefix(text, prefix) }

// envelope is the parsed form of enc:v1:<key id>:<nonce>:<ciphertext+tag>.
type envelope struct {
	keyID  string
	nonce  []byte
	sealed []byte // ciphertext and tag
}

func (e envelope) String() string {
	return prefix + e.keyID + ":" + encoding().EncodeToString(e.nonce) + ":" + encoding().EncodeToString(e.sealed)
}

func parseEnvelope(text string) (envelope, error) {
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok || len(text) > maxEnvelope {
		return envelope{}, ErrNotEnvelope
	}
	parts := strings.Split(rest, ":")
	if len(parts) != 3 || !validKeyID(parts[0]) {
		return envelope{}, ErrNotEnvelope
	}
	// DecodeString skips line breaks, even when strict.
	if strings.ContainsAny(rest, "\r\n") {
		return envelope{}, ErrNotEnvelope
	}
	nonce, err := encoding().DecodeString(parts[1])
	if err != nil || len(nonce) != nonceSize {
		return envelope{}, ErrNotEnvelope
	}
	sealed, err := encoding().DecodeString(parts[2])
	if err != nil || len(sealed) < tagSize {
		return envelope{}, ErrNotEnvelope
	}
	return envelope{keyID: parts[0], nonce: nonce, sealed: sealed}, nil
}
