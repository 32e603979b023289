package webhook

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/secret"
)

const (
	goldenSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	otherSecret  = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

func secrets(plain ...string) []secret.String {
	out := make([]secret.String, len(plain))
	for i, s := range plain {
		out[i] = secret.New(s)
	}
	return out
}

func TestSignatureEqualsThePublishedStandardWebhooksVector(t *testing.T) {
	standard, _, err := signatures(secrets(goldenSecret), "msg_p5jXN8AQM9LWM0D4loKWxJek",
		time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	require.NoError(t, err)
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", standard)
}

func TestHubSignatureEqualsThePublishedVector(t *testing.T) {
	_, hub, err := signatures(secrets("It's a Secret to Everybody"), "msg_1", time.Unix(1, 0), []byte("Hello, World!"))
	require.NoError(t, err)
	require.Equal(t, "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", hub)
}

func TestHubSignatureIsKeyedWithTheWholeSecret(t *testing.T) {
	_, hub, err := signatures(secrets(goldenSecret), "msg_1", time.Unix(1, 0), []byte("{}"))
	require.NoError(t, err)
	require.Equal(t, hubSignature(goldenSecret, []byte("{}")), hub)
	require.NotEqual(t, hubSignature(strings.TrimPrefix(goldenSecret, "whsec_"), []byte("{}")), hub)
}

func TestEverySecretShapeYieldsTheKeyThatTheLibrariesUse(t *testing.T) {
	key := []byte("0123456789abcdef01234567")
	encoded := base64.StdEncoding.EncodeToString(key)
	for name, tc := range map[string]struct {
		secret string
		key    []byte
	}{
		"prefixed":                    {"whsec_" + encoded, key},
		"prefixed, short key":         {"whsec_" + base64.StdEncoding.EncodeToString([]byte("short")), []byte("short")},
		"prefixed, padding left out":  {"whsec_c2hvcnQ", []byte("short")},
		"prefixed, not base64":        {"whsec_p@ss", []byte("p@ss")},
		"no prefix, base64 of a key":  {encoded, key},
		"no prefix, too short to be":  {"c2hvcnQ=", []byte("c2hvcnQ=")},
		"no prefix, a plain password": {"It's a Secret", []byte("It's a Secret")},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := sharedKey(tc.secret)
			require.NoError(t, err)
			require.Equal(t, tc.key, got)
		})
	}
}

func TestEmptySecretNeverSigns(t *testing.T) {
	for _, s := range []string{"", "whsec_"} {
		_, _, err := signatures([]secret.String{secret.New(s)}, "msg_1", time.Unix(1, 0), nil)
		require.ErrorIs(t, err, errEmptySecret)
	}
}

func signedHeader(t *testing.T, at time.Time, body string, plain ...string) http.Header {
	t.Helper()
	standard, _, err := signatures(secrets(plain...), "msg_1", at, []byte(body))
	require.NoError(t, err)
	h := http.Header{}
	h.Set(HeaderID, "msg_1")
	h.Set(HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(HeaderSignature, standard)
	return h
}

func TestOfficialLibraryAcceptsOurSignatures(t *testing.T) {
	const body = `{"a":"ü","n":12345678901234567890}`
	h := signedHeader(t, time.Now(), body, otherSecret, goldenSecret)
	for _, s := range []string{goldenSecret, otherSecret} {
		lib, err := standardwebhooks.NewWebhook(s)
		require.NoError(t, err)
		require.NoError(t, lib.Verify([]byte(body), h))
		require.Error(t, lib.Verify([]byte(body+" "), h))
	}
}

func TestVerifyAcceptsWhatTheOfficialLibrarySigned(t *testing.T) {
	now := time.Now()
	lib, err := standardwebhooks.NewWebhook(goldenSecret)
	require.NoError(t, err)
	signature, err := lib.Sign("msg_9", now, []byte("body"))
	require.NoError(t, err)
	h := http.Header{}
	h.Set("webhook-id", "msg_9")
	h.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	h.Set("webhook-signature", "v1a,AAAA v2,zzzz "+signature)
	require.NoError(t, Verify(secrets(goldenSecret), h, []byte("body"), now))
}

func TestVerifyAcceptsEitherSecretDuringRotation(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	h := signedHeader(t, now, "x", goldenSecret, otherSecret)
	require.NoError(t, Verify(secrets(goldenSecret), h, []byte("x"), now))
	require.NoError(t, Verify(secrets(otherSecret), h, []byte("x"), now))
	require.NoError(t, Verify(secrets("unrelated", otherSecret), h, []byte("x"), now))
}

func TestVerifyRefusesEverythingElse(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	const body = `{"n":1}`
	good := signedHeader(t, now, body, goldenSecret)
	sig := strings.TrimPrefix(good.Get(HeaderSignature), "v1,")
	change := func(name, value string) http.Header {
		h := good.Clone()
		h.Set(name, value)
		return h
	}
	for name, tc := range map[string]struct {
		header http.Header
		body   string
		at     time.Time
		want   error
	}{
		"another body":         {good, `{"n":2}`, now, ErrBadSignature},
		"body with a newline":  {good, body + "\n", now, ErrBadSignature},
		"another id":           {change(HeaderID, "msg_2"), body, now, ErrBadSignature},
		"moved dot":            {change(HeaderID, "msg_1.1"), body, now, ErrBadSignature},
		"another timestamp":    {change(HeaderTimestamp, "1700000001"), body, now, ErrBadSignature},
		"signed timestamp +":   {change(HeaderTimestamp, "+1700000000"), body + " ", now, ErrBadSignature},
		"too old":              {good, body, now.Add(Tolerance + time.Second), ErrStale},
		"too new":              {good, body, now.Add(-Tolerance - time.Second), ErrStale},
		"absurd timestamp":     {change(HeaderTimestamp, "-9223372036854775808"), body, now, ErrStale},
		"timestamp overflow":   {change(HeaderTimestamp, "99999999999999999999"), body, now, ErrNoSignature},
		"timestamp fraction":   {change(HeaderTimestamp, "1700000000.0"), body, now, ErrNoSignature},
		"no id":                {change(HeaderID, ""), body, now, ErrNoSignature},
		"no signature":         {change(HeaderSignature, ""), body, now, ErrNoSignature},
		"version only":         {change(HeaderSignature, "v1,"), body, now, ErrBadSignature},
		"comma only":           {change(HeaderSignature, ","), body, now, ErrBadSignature},
		"spaces only":          {change(HeaderSignature, "   "), body, now, ErrBadSignature},
		"bare signature":       {change(HeaderSignature, sig), body, now, ErrBadSignature},
		"wrong version":        {change(HeaderSignature, "v2,"+sig), body, now, ErrBadSignature},
		"upper case version":   {change(HeaderSignature, "V1,"+sig), body, now, ErrBadSignature},
		"v1a is another thing": {change(HeaderSignature, "v1a,"+sig), body, now, ErrBadSignature},
		"truncated":            {change(HeaderSignature, "v1,"+sig[:20]), body, now, ErrBadSignature},
		"trailing bytes":       {change(HeaderSignature, "v1,"+sig+"AA"), body, now, ErrBadSignature},
		"comma joined":         {change(HeaderSignature, "v1,AAAA,v1,"+sig), body, now, ErrBadSignature},
		"hidden behind many":   {change(HeaderSignature, strings.Repeat(signedHeader(t, now, "z", goldenSecret).Get(HeaderSignature)+" ", maxSignatures)+"v1,"+sig), body, now, ErrBadSignature},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, Verify(secrets(goldenSecret), tc.header, []byte(tc.body), tc.at), tc.want)
		})
	}
	require.NoError(t, Verify(secrets(goldenSecret), good, []byte(body), now))
	require.ErrorIs(t, Verify(secrets(otherSecret), good, []byte(body), now), ErrBadSignature)
	require.ErrorIs(t, Verify(nil, good, []byte(body), now), ErrBadSignature)
}
