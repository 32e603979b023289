package webhook

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/dot-do/relay/internal/secret"
)

// Prefixes of Standard Webhooks secrets.
const (
	sharedPrefix  = "whsec_"
	privatePrefix = "whsk_"
	publicPrefix  = "whpk_"
)

const (
	// minDecodedKey is the shortest key that Standard Webhooks allows. A secret
	// without prefix that decodes to less is taken for a plain password.
	minDecodedKey = 24
	// sharedKeySize is how long the keys are that NewSharedSecret draws.
	sharedKeySize = 32
)

// Errors of signing secrets. None of them quotes one.
var (
	errEmptySecret = errors.New("signing secret is empty")
	errPrivateKey  = errors.New("signing secret starts with whsk_ and is no ed25519 key pair: want base64 of 64 bytes, seed and public key; " +
		"make one with relay webhooks rotate-secret --algorithm ed25519")
	errPublicKey       = errors.New("signing secret is a public key (whpk_): it verifies and cannot sign; store the whsk_ key")
	errBadPublicKey    = errors.New("secret starts with whpk_ and is no ed25519 public key: want base64 of 32 bytes")
	errMisplacedPrefix = errors.New("secret holds whsk_ or whpk_ behind blanks, another prefix or in other case: it is not taken for a shared secret")
)

// signKey is a parsed secret. Either shared is set, or public, and private with it
// when the secret can sign.
type signKey struct {
	shared  []byte
	private ed25519.PrivateKey
	public  ed25519.PublicKey
}

// parseKey decides by the prefix what a secret is. What looks like a key pair or a
// public key is never an HMAC key, however damaged: everybody knows the public key,
// and could sign with it.
func parseKey(s string) (signKey, error) {
	if encoded, ok := strings.CutPrefix(s, privatePrefix); ok {
		return parsePrivate(encoded)
	}
	if encoded, ok := strings.CutPrefix(s, publicPrefix); ok {
		raw, err := decodeKey(encoded)
		if err != nil || len(raw) != ed25519.PublicKeySize {
			return signKey{}, errBadPublicKey
		}
		return signKey{public: raw}, nil
	}
	if asymmetricInDisguise(s) {
		return signKey{}, errMisplacedPrefix
	}
	key, err := sharedKey(s)
	return signKey{shared: key}, err
}

// parsePrivate checks that the public half belongs to the seed: a signature made with
// another one tells the private key.
func parsePrivate(encoded string) (signKey, error) {
	raw, err := decodeKey(encoded)
	if err != nil || len(raw) != ed25519.PrivateKeySize {
		return signKey{}, errPrivateKey
	}
	private := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	if !private.Equal(ed25519.PrivateKey(raw)) {
		return signKey{}, errPrivateKey
	}
	return signKey{private: private, public: ed25519.PublicKey(private[ed25519.SeedSize:])}, nil
}

func decodeKey(encoded string) ([]byte, error) {
	return base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(encoded, "="))
}

// asymmetricInDisguise finds the prefixes where a slip put them: behind blanks, in
// upper case, behind whsec_.
func asymmetricInDisguise(s string) bool {
	s = strings.ToLower(strings.TrimSpace(s))
	s = strings.TrimSpace(strings.TrimPrefix(s, sharedPrefix))
	return strings.HasPrefix(s, privatePrefix) || strings.HasPrefix(s, publicPrefix)
}

// sharedKey derives the Standard Webhooks key of a shared secret: the base64 decoded
// part after whsec_. The official libraries decode a secret without the prefix
// too, so one that decodes to a full key is decoded; every other string is its
// own key, byte for byte.
func sharedKey(s string) ([]byte, error) {
	rest, prefixed := strings.CutPrefix(s, sharedPrefix)
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

// NewSharedSecret draws a whsec_ secret: relay and receiver both hold it.
func NewSharedSecret() secret.String {
	key := make([]byte, sharedKeySize)
	rand.Read(key) // it cannot fail: the program ends first
	return secret.New(sharedPrefix + base64.StdEncoding.EncodeToString(key))
}

// NewKeyPair draws an ed25519 key pair: private, whsk_, is what the relay signs with,
// and public, whpk_, what receivers verify with. The public key is no secret.
func NewKeyPair() (private secret.String, public string) {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed) // it cannot fail: the program ends first
	key := ed25519.NewKeyFromSeed(seed)
	return secret.New(privatePrefix + base64.StdEncoding.EncodeToString(key)),
		publicPrefix + base64.StdEncoding.EncodeToString(key[ed25519.SeedSize:])
}
