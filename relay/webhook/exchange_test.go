package webhook

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestBodyIsReadToItsCapAndNoFurther(t *testing.T) {
	text, ended, err := readBody(strings.NewReader(strings.Repeat("x", maxBody-1)))
	require.NoError(t, err)
	require.True(t, ended)
	require.Len(t, text, maxBody-1)

	endless := &counting{r: strings.NewReader(strings.Repeat("ü", 1<<20))}
	text, ended, err = readBody(endless)
	require.NoError(t, err)
	require.False(t, ended)
	require.LessOrEqual(t, len(text), maxBody)
	require.Greater(t, len(text), maxBody-16)
	require.True(t, strings.HasSuffix(text, "ü"+cutMark), "a cut body says so")
	require.Equal(t, maxBody+1, endless.n)

	text, ended, err = readBody(strings.NewReader(strings.Repeat("x", maxBody)))
	require.NoError(t, err)
	require.True(t, ended)
	require.Equal(t, strings.Repeat("x", maxBody), text, "it just fits")
	text, ended, err = readBody(strings.NewReader(strings.Repeat("\xff", maxBody/2)))
	require.NoError(t, err)
	require.True(t, ended)
	require.LessOrEqual(t, len(text), maxBody)
	require.True(t, strings.HasSuffix(text, cutMark) || len(text) == len("\uFFFD"), "what replaced it does not fit")

	text, ended, err = readBody(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("reset"))))
	require.Error(t, err)
	require.False(t, ended)
	require.Equal(t, "half"+cutMark, text)
}

type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func TestStoredTextIsValidForPostgresWhateverWasSent(t *testing.T) {
	for _, in := range []string{"", "a\x00b", "\x1f\x8b\x08\x00\xff\xfe", strings.Repeat("\xff", maxBody), strings.Repeat("a\xff", maxBody), "€" + strings.Repeat("€", maxBody)} {
		out := cleanText(in, maxBody)
		require.True(t, utf8.ValidString(out))
		require.NotContains(t, out, "\x00")
		require.LessOrEqual(t, len(out), maxBody)
	}
	require.Equal(t, "ab", cleanText("a\x00b", 10))
}

func TestResponseHeadersAreBoundedAndMasked(t *testing.T) {
	h := http.Header{}
	for i := range 500 {
		h.Set("X-Filler-"+strings.Repeat("a", i%300), strings.Repeat("v", 5000))
	}
	h.Set("Set-Cookie", "session=topsecret")
	h.Set("X-Auth-Token", "topsecret")
	h.Set("Authorization", "Bearer topsecret")
	h.Set("Location", "https://user:topsecret@evil.example/topsecret?topsecret=1")
	h.Set("Retry-After", "7")
	h.Set("Date", "Tue, 14 Nov 2023 22:13:20 GMT")
	for range 50 { // whichever of the headers a map's order leaves out
		out := responseHeaders(h)
		require.LessOrEqual(t, len(out), maxHeaders+2)
		require.Equal(t, "7", out["retry-after"])
		require.NotEmpty(t, out["date"])
		for name, value := range out {
			require.LessOrEqual(t, len(value), maxHeaderValue)
			require.LessOrEqual(t, len(name), 128)
			require.NotContains(t, value, "topsecret")
		}
	}
	require.Equal(t, "https://evil.example/***", responseHeaders(http.Header{"Location": h["Location"]})["location"])
	require.Equal(t, mask, responseHeaders(http.Header{"Location": {"/relative?token=1"}})["location"])
}
