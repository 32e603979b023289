package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	keySize = 32 // AES-256
	// maxKeyFile bounds what is read: it holds some thousand keys.
	maxKeyFile = 256 << 10
	maxKeyID   = 64
)

// ErrUnknownKey is returned by Open for an envelope sealed under a key that the
// keyring does not hold. Adding that key's line to the master key file heals it.
var ErrUnknownKey = errors.New("sealed under a key that is not in the master key file")

// ErrTampered is returned by Open when the bytes do not authenticate: they were
// altered, belong to another row, or another key has the same id.
var ErrTampered = errors.New("does not authenticate for this row and key")

// Keyring seals secrets under its first key and opens what any of its keys has
// sealed. It is immutable and safe for concurrent use.
type Keyring struct {
	active string
	keys   map[string]cipher.AEAD
}

// Load reads a keyring from a file of lines "keyid:base64", each key 32 bytes.
// Blank lines and lines starting with # are ignored. A key id is 1 to 64 of the
// characters A-Z a-z 0-9 _ . and -. The warning is not empty when other users of
// the machine can read the file. Errors name lines, never their content.
func Load(path string) (ring *Keyring, warning string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("open master key file: %w", err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, "", fmt.Errorf("stat master key file: %w", err)
	}
	ring, err = Parse(file)
	if err != nil {
		return nil, "", fmt.Errorf("read master key file %s: %w", path, err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		warning = fmt.Sprintf("master key file %s is open to other users (mode %04o); run: chmod 600 %s", path, mode, path)
	}
	return ring, warning, nil
}

// Parse reads a keyring as Load does.
func Parse(r io.Reader) (*Keyring, error) {
	content, err := io.ReadAll(io.LimitReader(r, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxKeyFile {
		return nil, fmt.Errorf("larger than %d bytes", maxKeyFile)
	}
	ring := &Keyring{keys: make(map[string]cipher.AEAD)}
	seen := make(map[[keySize]byte]bool)
	number := 0
	for line := range strings.Lines(string(content)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, key, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if _, dup := ring.keys[id]; dup || seen[key] {
			return nil, fmt.Errorf("line %d: its key or key id stands on an earlier line too", number)
		}
		if err := ring.add(id, key); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		seen[key] = true
	}
	if ring.active == "" {
		return nil, errors.New("no key; add one with: echo \"k1:$(openssl rand -base64 32)\"")
	}
	return ring, nil
}

func (k *Keyring) add(id string, key [keySize]byte) error {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	k.keys[id] = aead
	if k.active == "" {
		k.active = id
	}
	return nil
}

// parseKey reads "keyid:base64". Its errors quote nothing: whoever forgets the
// key id or swaps the halves must not find the key in a log.
func parseKey(line string) (id string, key [keySize]byte, err error) {
	id, encoded, ok := strings.Cut(line, ":")
	if !ok {
		return "", key, errors.New("want keyid:base64")
	}
	id, encoded = strings.TrimSpace(id), strings.TrimSpace(encoded)
	if !validKeyID(id) {
		return "", key, fmt.Errorf("the key id before the colon must be 1 to %d of A-Z a-z 0-9 _ . -", maxKeyID)
	}
	// Both alphabets, with or without padding: openssl and other tools differ.
	encoded = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(encoded, "="))
	raw, err := base64.RawStdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(raw) != keySize {
		return "", key, fmt.Errorf("want %d bytes in base64 after the colon, as openssl rand -base64 %d prints", keySize, keySize)
	}
	return id, [keySize]byte(raw), nil
}

func validKeyID(id string) bool {
	if id == "" || len(id) > maxKeyID {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}

// AAD names the one place a secret belongs to: "table|column|row id". Sealed for
// one row, an envelope cannot be opened as another row's.
func AAD(table, column, rowID string) string {
	return table + "|" + column + "|" + rowID
}

// Seal encrypts plaintext under the keyring's first key, bound to aad, and
// returns its envelope. Two calls never return the same envelope.
func (k *Keyring) Seal(plaintext String, aad string) (string, error) {
	aead := k.keys[k.active]
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return "", fmt.Errorf("draw nonce: %w", err)
	}
	sealed := aead.Seal(nil, nonce, []byte(plaintext.Reveal()), []byte(aad))
	return envelope{keyID: k.active, nonce: nonce, sealed: sealed}.String(), nil
}

// Open returns the secret sealed in an envelope for the same aad. Its error is
// ErrNotEnvelope, ErrUnknownKey or ErrTampered, and quotes no part of either.
func (k *Keyring) Open(text, aad string) (String, error) {
	env, err := parseEnvelope(text)
	if err != nil {
		return String{}, err
	}
	aead, ok := k.keys[env.keyID]
	if !ok {
		return String{}, fmt.Errorf("open envelope of key %q: %w", env.keyID, ErrUnknownKey)
	}
	plaintext, err := aead.Open(nil, env.nonce, env.sealed, []byte(aad))
	if err != nil {
		return String{}, fmt.Errorf("open envelope of key %q: %w", env.keyID, ErrTampered)
	}
	return New(string(plaintext)), nil
}

// Current reports whether the envelope is sealed under the keyring's first key.
// What is not should be opened and sealed again, so that older keys can retire.
func (k *Keyring) Current(text string) bool {
	env, err := parseEnvelope(text)
	return err == nil && env.keyID == k.active
}
