package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/secret"
)

// goldenPair is the key pair of the vector that Svix publishes, otherPair has the
// bytes 0 to 31 as its seed, and rfcPair is the first key of RFC 8032.
const (
	goldenPrivate = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	goldenPublic  = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
	otherPrivate  = "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA=="
	otherPublic   = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
	rfcPrivate    = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg=="
	rfcPublic     = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
)

// The first vector is published; the others were made with OpenSSL's ed25519.
func TestAsymmetricSignaturesEqualVectorsMadeByOtherImplementations(t *testing.T) {
	for _, v := range []struct {
		private, public, id string
		at                  int64
		body, want          string
	}{
		{
			goldenPrivate, goldenPublic, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, `{"test": 2432232314}`,
			"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
		},
		{
			otherPrivate, otherPublic, "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", 1674087231, "",
			"v1a,Hv1J9ZXtyJo4Jx6o1Q8fCKv34fPvpFWMW8v9YoFytC87m6itfGbvEktc3KUxgkt4vLI2Wpeyopf/Gzpl4W4ZBA==",
		},
		{
			otherPrivate, otherPublic, "evt_1", 1700000000, `{"a":"ü","n":12345678901234567890}` + "\n",
			"v1a,jcksMwz539fW6FZWgxGYmmy6JuBJjZ/RafwE2p0XuoJ2exqJrcX4jHpjYkbzsV+pkTmAbnSqTok/APmnxXXqCw==",
		},
		{
			rfcPrivate, rfcPublic, "a.b", 0, "x.y.z",
			"v1a,fbpoocOpxs/u9u9s92YygqmcU4Q6ychPO8+/5OZFXzscwKq+mDafEp9mKsLV4vS4chCgMV1PUFPEYxaJDnwlBg==",
		},
	} {
		standard, hub, err := signatures(secrets(v.private), v.id, time.Unix(v.at, 0), []byte(v.body))
		require.NoError(t, err)
		require.Equal(t, v.want, standard)
		require.Empty(t, hub, "there is no shared secret")

		h := headerOf(v.id, v.at, v.want)
		require.NoError(t, Verify(secrets(v.public), h, []byte(v.body), time.Unix(v.at, 0)))
		require.NoError(t, Verify(secrets(v.private), h, []byte(v.body), time.Unix(v.at, 0)))
	}
}

func headerOf(id string, at int64, signature string) http.Header {
	h := http.Header{}
	h.Set(HeaderID, id)
	h.Set(HeaderTimestamp, strconv.FormatInt(at, 10))
	h.Set(HeaderSignature, signature)
	return h
}

func TestVerifyRefusesEveryOtherAsymmetricSignature(t *testing.T) {
	const at, body = 1_700_000_000, `{"n":1}`
	now := time.Unix(at, 0)
	good := signedHeader(t, now, body, goldenPrivate)
	sig := strings.TrimPrefix(good.Get(HeaderSignature), "v1a,")
	raw, err := base64.StdEncoding.DecodeString(sig)
	require.NoError(t, err)
	flipped := append([]byte(nil), raw...)
	flipped[10] ^= 1
	change := func(name, value string) http.Header {
		h := good.Clone()
		h.Set(name, value)
		return h
	}
	require.NoError(t, Verify(secrets(goldenPublic), good, []byte(body), now))
	for name, tc := range map[string]struct {
		header http.Header
		body   string
		public string
		want   error
	}{
		"another body":            {good, `{"n":2}`, goldenPublic, ErrBadSignature},
		"body with a newline":     {good, body + "\n", goldenPublic, ErrBadSignature},
		"another id":              {change(HeaderID, "msg_2"), body, goldenPublic, ErrBadSignature},
		"another timestamp":       {change(HeaderTimestamp, "1700000001"), body, goldenPublic, ErrBadSignature},
		"stale":                   {change(HeaderTimestamp, "1699990000"), body, goldenPublic, ErrStale},
		"another key":             {good, body, otherPublic, ErrBadSignature},
		"one bit":                 {change(HeaderSignature, "v1a,"+base64.StdEncoding.EncodeToString(flipped)), body, goldenPublic, ErrBadSignature},
		"truncated":               {change(HeaderSignature, "v1a,"+sig[:40]), body, goldenPublic, ErrBadSignature},
		"trailing bytes":          {change(HeaderSignature, "v1a,"+sig+"AA"), body, goldenPublic, ErrBadSignature},
		"padding left out":        {change(HeaderSignature, "v1a,"+strings.TrimRight(sig, "=")), body, goldenPublic, ErrBadSignature},
		"empty":                   {change(HeaderSignature, "v1a,"), body, goldenPublic, ErrBadSignature},
		"version only":            {change(HeaderSignature, "v1a"), body, goldenPublic, ErrBadSignature},
		"as v1":                   {change(HeaderSignature, "v1,"+sig), body, goldenPublic, ErrBadSignature},
		"upper case version":      {change(HeaderSignature, "V1A,"+sig), body, goldenPublic, ErrBadSignature},
		"all zero":                {change(HeaderSignature, "v1a,"+base64.StdEncoding.EncodeToString(make([]byte, 64))), body, goldenPublic, ErrBadSignature},
		"key of the shared kind":  {good, body, goldenSecret, ErrBadSignature},
		"shared secret's entry":   {change(HeaderSignature, signedHeader(t, now, body, goldenSecret).Get(HeaderSignature)), body, goldenPublic, ErrBadSignature},
		"hidden behind many":      {change(HeaderSignature, strings.Repeat("v1a,"+base64.StdEncoding.EncodeToString(flipped)+" ", maxSignatures)+"v1a,"+sig), body, goldenPublic, ErrBadSignature},
		"public key, short":       {good, body, "whpk_AAAA", errBadPublicKey},
		"public key, empty":       {good, body, "whpk_", errBadPublicKey},
		"public key, not base64":  {good, body, "whpk_!" + goldenPublic[6:], errBadPublicKey},
		"public key, newline":     {good, body, goldenPublic + "\n", errBadPublicKey},
		"public key behind blank": {good, body, " " + goldenPublic, errMisplacedPrefix},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, Verify(secrets(tc.public), tc.header, []byte(tc.body), now), tc.want)
		})
	}
}

// Everybody knows the public key. Whoever takes it, in any spelling, for the key of an
// HMAC must get nothing with it.
func TestAPublicKeyIsNeverTheKeyOfAnHMAC(t *testing.T) {
	const at, body = 1_700_000_000, "{}"
	now := time.Unix(at, 0)
	raw, err := decodeKey(strings.TrimPrefix(goldenPublic, publicPrefix))
	require.NoError(t, err)
	encoded := strings.TrimPrefix(goldenPublic, publicPrefix)
	for _, configured := range []string{
		goldenPublic, " " + goldenPublic, goldenPublic + "\n", strings.ToUpper(goldenPublic), "whsec_" + goldenPublic, "whsec_ " + goldenPublic,
		"whpk_" + goldenPublic, "whpk_short", "whpk_", goldenPrivate, " " + goldenPrivate, "whsec_" + goldenPrivate, "WHSK_AAAA", "whsk_", "whsk_AAAA",
	} {
		for _, key := range [][]byte{
			raw, []byte(goldenPublic), []byte(encoded), []byte(configured), []byte(strings.TrimSpace(configured)),
			[]byte(strings.TrimPrefix(configured, sharedPrefix)),
			{},
		} {
			mac := hmac.New(sha256.New, key)
			mac.Write(signedBytes("msg_1", at, []byte(body)))
			sum := base64.StdEncoding.EncodeToString(mac.Sum(nil))
			for _, version := range []string{"v1,", "v1a,"} {
				require.Error(t, Verify(secrets(configured), headerOf("msg_1", at, version+sum), []byte(body), now))
			}
		}
	}
}

func TestAKeyThatCannotSignIsAnErrorThatQuotesNothing(t *testing.T) {
	mixed := make([]byte, 0, ed25519.PrivateKeySize) // a seed with the public key of another
	seed, err := decodeKey(strings.TrimPrefix(goldenPrivate, privatePrefix))
	require.NoError(t, err)
	other, err := decodeKey(strings.TrimPrefix(otherPublic, publicPrefix))
	require.NoError(t, err)
	mixed = append(append(mixed, seed[:32]...), other...)
	for s, want := range map[string]error{
		goldenPublic:        errPublicKey,
		"whpk_x":            errBadPublicKey,
		"whsk_":             errPrivateKey,
		"whsk_AAAA":         errPrivateKey,
		goldenPrivate[:60]:  errPrivateKey,
		goldenPrivate + "A": errPrivateKey,
		"whsk_" + base64.StdEncoding.EncodeToString(mixed): errPrivateKey,
		" " + goldenPrivate:        errMisplacedPrefix,
		"whsec_" + goldenPrivate:   errMisplacedPrefix,
		strings.ToUpper("whsk_AA"): errMisplacedPrefix,
	} {
		_, _, err := signatures(secrets(s), "msg_1", time.Unix(1, 0), nil)
		require.ErrorIs(t, err, want)
		require.NotContains(t, err.Error(), "AAAA")
		require.NotContains(t, err.Error(), goldenPrivate[5:25])
	}
}

func TestBothKindsOfSecretSignTogetherNewestFirst(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	standard, hub, err := signatures(secrets(goldenPrivate, otherSecret), "msg_1", now, []byte("x"))
	require.NoError(t, err)
	require.Regexp(t, `^v1a,[A-Za-z0-9+/]{86}== v1,[A-Za-z0-9+/]{43}=$`, standard)
	require.Equal(t, hubSignature(otherSecret, []byte("x")), hub, "receivers of the shared secret go on until the overlap ends")
	require.Equal(t, "v1a,*** v1,***", masked(standard))

	h := signedHeader(t, now, "x", goldenPrivate, otherSecret)
	for _, known := range [][]string{{goldenPublic}, {otherSecret}, {otherPublic, otherSecret}, {goldenSecret, goldenPublic}} {
		require.NoError(t, Verify(secrets(known...), h, []byte("x"), now))
	}
	require.ErrorIs(t, Verify(secrets(otherPublic, goldenSecret), h, []byte("x"), now), ErrBadSignature)
}

func TestWhatIsSignedVerifiesAndWhatIsChangedDoesNot(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	now := time.Unix(1_700_000_000, 0)
	for range 200 {
		var private secret.String
		var public string
		if rng.IntN(2) == 0 {
			private, public = NewKeyPair()
		} else {
			private = NewSharedSecret()
			public = private.Reveal()
		}
		body := make([]byte, rng.IntN(300))
		for i := range body {
			body[i] = byte(rng.Uint32())
		}
		h := signedHeader(t, now, string(body), private.Reveal())
		require.NoError(t, Verify(secrets(public), h, body, now))

		changed := append(append([]byte(nil), body...), 0)
		changed[rng.IntN(len(changed))] ^= byte(1 + rng.IntN(255))
		require.ErrorIs(t, Verify(secrets(public), h, changed, now), ErrBadSignature)
		_, stranger := NewKeyPair()
		require.ErrorIs(t, Verify(secrets(stranger, NewSharedSecret().Reveal()), h, body, now), ErrBadSignature)
	}
}

func TestNewSecretsHaveTheDocumentedForm(t *testing.T) {
	require.Regexp(t, `^whsec_[A-Za-z0-9+/]{43}=$`, NewSharedSecret().Reveal())
	private, public := NewKeyPair()
	require.Regexp(t, `^whsk_[A-Za-z0-9+/]{86}==$`, private.Reveal())
	require.Regexp(t, `^whpk_[A-Za-z0-9+/]{43}=$`, public)
	one, other := NewSharedSecret(), NewSharedSecret()
	require.NotEqual(t, one.Reveal(), other.Reveal())
}
