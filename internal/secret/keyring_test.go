package secret_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/secret"
)

// Two keys of 32 equal bytes each.
var (
	keyA = base64.StdEncoding.EncodeToString([]byte(strings.Repeat("a", 32)))
	keyB = base64.StdEncoding.EncodeToString([]byte(strings.Repeat("b", 32)))
	aad  = secret.AAD("zapier_webhooks", "signing_secret", "42")
)

func keyring(t testing.TB, lines ...string) *secret.Keyring {
	t.Helper()
	ring, err := secret.Parse(strings.NewReader(strings.Join(lines, "\n")))
	require.NoError(t, err)
	return ring
}

func seal(t testing.TB, ring *secret.Keyring, plaintext, aad string) string {
	t.Helper()
	envelope, err := ring.Seal(secret.New(plaintext), aad)
	require.NoError(t, err)
	return envelope
}

func TestOpenReturnsWhatWasSealed(t *testing.T) {
	ring := keyring(t, "k1:"+keyA)
	for _, plaintext := range []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "", "ü\x00\n:"} {
		envelope := seal(t, ring, plaintext, aad)
		require.True(t, secret.IsEnvelope(envelope))
		require.Regexp(t, `^enc:v1:k1:[A-Za-z0-9_-]{16}:[A-Za-z0-9_-]+$`, envelope)

		opened, err := ring.Open(envelope, aad)
		require.NoError(t, err)
		require.Equal(t, plaintext, opened.Reveal())
	}
}

func TestSealNeverReturnsTheSameEnvelopeTwice(t *testing.T) {
	ring := keyring(t, "k1:"+keyA)
	first, second := seal(t, ring, canary, aad), seal(t, ring, canary, aad)
	require.NotEqual(t, first, second)
}

// golden was made by another implementation of the format, which is stored in
// users' databases: it must open for ever.
const (
	golden       = "enc:v1:k1:AAECAwQFBgcICQoL:wHKXhTPQD_OUmBZFkdkNfcdVrEvyxw4ZKnmfFZ0JYF8ZWwRb-V6Xrb3GdN7b8THyp7GIl-Jz"
	goldenSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

func TestOpenReadsTheGoldenEnvelope(t *testing.T) {
	opened, err := keyring(t, "k1:"+keyA).Open(golden, "zapier_webhooks|signing_secret|42")
	require.NoError(t, err)
	require.Equal(t, goldenSecret, opened.Reveal())
}

func TestOpenRefusesAnotherRowsEnvelope(t *testing.T) {
	ring := keyring(t, "k1:"+keyA)
	row1, row2 := secret.AAD("t", "c", "1"), secret.AAD("t", "c", "2")
	first, second := seal(t, ring, canary, row1), seal(t, ring, canary+"2", row2)

	_, err := ring.Open(first, row2)
	require.ErrorIs(t, err, secret.ErrTampered)
	_, err = ring.Open(second, row1)
	require.ErrorIs(t, err, secret.ErrTampered)
	_, err = ring.Open(first, "")
	require.ErrorIs(t, err, secret.ErrTampered)
}

func TestOpenNamesTheKeyItMisses(t *testing.T) {
	envelope := seal(t, keyring(t, "old:"+keyA), canary, aad)
	_, err := keyring(t, "new:"+keyB).Open(envelope, aad)
	require.ErrorIs(t, err, secret.ErrUnknownKey)
	require.ErrorContains(t, err, `"old"`)
}

func TestOpenRefusesAKeyThatOnlyHasTheRightName(t *testing.T) {
	envelope := seal(t, keyring(t, "k1:"+keyA), canary, aad)
	_, err := keyring(t, "k1:"+keyB).Open(envelope, aad)
	require.ErrorIs(t, err, secret.ErrTampered)
}

func TestOpenRefusesEveryAlteredCharacter(t *testing.T) {
	ring := keyring(t, "k1:"+keyA, "k2:"+keyB)
	envelope := seal(t, ring, canary, aad)
	for i := range envelope {
		for _, c := range []byte("Az09_-:2") {
			if envelope[i] == c {
				continue
			}
			altered := envelope[:i] + string(c) + envelope[i+1:]
			_, err := ring.Open(altered, aad)
			require.Error(t, err, altered)
		}
	}
}

func TestOpenRefusesEveryTruncation(t *testing.T) {
	ring := keyring(t, "k1:"+keyA)
	envelope := seal(t, ring, canary, aad)
	for i := range envelope {
		_, err := ring.Open(envelope[:i], aad)
		require.Error(t, err)
	}
	for _, tail := range []string{"A", "=", "\n", ":", ":AAAA"} {
		_, err := ring.Open(envelope+tail, aad)
		require.Error(t, err, tail)
	}
}

func TestOpenTellsPlainTextFromAnEnvelope(t *testing.T) {
	for _, text := range []string{"", "whsec_abc", "enc:", "enc:v2:k1:a:b", "ENC:V1:k1:a:b"} {
		require.False(t, secret.IsEnvelope(text))
		_, err := keyring(t, "k1:"+keyA).Open(text, aad)
		require.ErrorIs(t, err, secret.ErrNotEnvelope)
	}
}

func TestRotationSealsWithTheFirstKeyAndOpensWithAll(t *testing.T) {
	envelope := seal(t, keyring(t, "old:"+keyA), canary, aad)
	rotated := keyring(t, "new:"+keyB, "old:"+keyA)

	require.False(t, rotated.Current(envelope))
	opened, err := rotated.Open(envelope, aad)
	require.NoError(t, err)
	again := seal(t, rotated, opened.Reveal(), aad)
	require.True(t, rotated.Current(again))
	require.True(t, strings.HasPrefix(again, "enc:v1:new:"))
	require.False(t, rotated.Current("whsec_plain"))
}

func TestParseAcceptsCommentsAndBothAlphabets(t *testing.T) {
	raw := []byte(strings.Repeat("\xfb\xff", 16))
	std, url := base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw)
	envelope := seal(t, keyring(t, "# keys", "", "  k.1-x_Y : "+std+" \r", "k2:"+keyA), canary, aad)
	opened, err := keyring(t, "k.1-x_Y:"+url).Open(envelope, aad)
	require.NoError(t, err)
	require.Equal(t, canary, opened.Reveal())
}

func TestParseNamesTheLineAndNeverItsContent(t *testing.T) {
	short := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef"))
	bads := map[string]string{
		"no key id":         keyA,
		"halves swapped":    keyA + ":k1",
		"empty id":          ":" + keyA,
		"id too long":       strings.Repeat("k", 65) + ":" + keyA,
		"key too short":     "k1:" + short,
		"key too long":      "k1:" + keyA + keyA,
		"not base64":        "k1:" + keyA[:40] + "!!!!",
		"two keys one line": "k1:" + keyA + " k2:" + keyB,
		"same id twice":     "k0:" + keyA,
		"same key twice":    "k9:" + keyB,
	}
	for name, line := range bads {
		t.Run(name, func(t *testing.T) {
			_, err := secret.Parse(strings.NewReader("# first line\nk0:" + keyB + "\n" + line))
			require.ErrorContains(t, err, "line 3: ")
			require.NotContains(t, err.Error(), keyA[:8])
			require.NotContains(t, err.Error(), keyB[:8])
			require.NotContains(t, err.Error(), short[:8])
		})
	}
	_, err := secret.Parse(strings.NewReader("# nothing here\n"))
	require.ErrorContains(t, err, "no key")
	_, err = secret.Parse(strings.NewReader(strings.Repeat("#", 1<<20)))
	require.ErrorContains(t, err, "larger than")
}

func TestLoadWarnsOfAFileOthersCanRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.keys")
	require.NoError(t, os.WriteFile(path, []byte("k1:"+keyA+"\n"), 0o600))
	ring, warning, err := secret.Load(path)
	require.NoError(t, err)
	require.Empty(t, warning)
	require.True(t, ring.Current(seal(t, ring, canary, aad)))

	require.NoError(t, os.Chmod(path, 0o644))
	_, warning, err = secret.Load(path)
	require.NoError(t, err)
	require.Contains(t, warning, "chmod 600 "+path)

	_, _, err = secret.Load(path + ".missing")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestErrorsNeverHoldThePlaintext(t *testing.T) {
	ring := keyring(t, "k1:"+keyA)
	envelope := seal(t, ring, canary, aad)
	for _, text := range []string{canary, "enc:v1:" + canary, "enc:v1:k1:" + canary + ":" + canary, "enc:v1:k1:::" + canary, envelope + "A"} {
		_, err := ring.Open(text, aad)
		require.Error(t, err)
		require.NotContains(t, err.Error(), canary)
	}
}

func FuzzOpenOnlyAcceptsItsOwnSeals(f *testing.F) {
	ring := keyring(f, "k1:"+keyA)
	f.Add(golden)
	f.Add("enc:v1:k1:AAAAAAAAAAAAAAAA:AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("enc:v1:::")
	f.Fuzz(func(t *testing.T, text string) {
		opened, err := ring.Open(text, aad)
		if err == nil {
			require.Equal(t, golden, text)
			require.Equal(t, goldenSecret, opened.Reveal())
			return
		}
		require.True(t, opened.IsZero())
	})
}
