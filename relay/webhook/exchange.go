package webhook

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// What of an exchange is kept for the log.
const (
	maxBody        = 16 << 10
	maxHeaders     = 64
	maxHeaderName  = 128
	maxHeaderValue = 1 << 10
	mask           = "***"
)

// cutMark ends a logged body that is not all that was sent: there was more than the
// log keeps, or the connection broke.
const cutMark = "\n[truncated]"

// readBody reads a response body up to the cap, and one byte further to see whether
// that is the end. It tells whether the end was seen: only then can the connection be
// used again.
func readBody(r io.Reader) (text string, ended bool, err error) {
	if r == http.NoBody {
		return "", true, nil
	}
	const enough = maxBody + 1
	buf := make([]byte, 0, 512)
	for len(buf) < enough {
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, len(buf))
		}
		n, err := r.Read(buf[len(buf):min(cap(buf), enough)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return loggedBody(buf, true), true, nil
		}
		if err != nil {
			return loggedBody(buf, false), false, err
		}
	}
	return loggedBody(buf, false), false, nil
}

// loggedBody is what the log keeps of a body: all of it, or its beginning with a mark.
func loggedBody(raw []byte, whole bool) string {
	text := cleanText(string(raw), utf8.UTFMax*len(raw)) // replaced bytes make it longer
	if whole && len(text) <= maxBody {
		return text
	}
	return cleanText(text, maxBody-len(cutMark)) + cutMark
}

// cleanText makes valid UTF-8 without NUL, as Postgres wants text, of at most
// limit bytes.
func cleanText(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.ReplaceAll(s, "\x00", "")
	for len(s) > limit {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	// A cut may have left the first bytes of a rune, now a replacement: as good a
	// sign of the cut as any.
	return s
}

// responseHeaders copies what the log keeps: bounded, lower case, credentials
// masked.
func responseHeaders(h http.Header) map[string]string {
	out := make(map[string]string, min(len(h), maxHeaders))
	for name, values := range h {
		if len(out) == maxHeaders {
			break
		}
		key := cleanText(strings.ToLower(name), maxHeaderName)
		switch {
		case credentialHeader(key):
			out[key] = mask
		case key == "location":
			out[key] = originOf(values[0])
		default:
			out[key] = cleanText(strings.Join(values, ", "), maxHeaderValue)
		}
	}
	// These decide about the next attempt: they are kept whatever else was sent.
	if len(h) > maxHeaders {
		for _, name := range []string{"Retry-After", "Date"} {
			if v := h.Get(name); v != "" {
				out[strings.ToLower(name)] = cleanText(v, maxHeaderValue)
			}
		}
	}
	return out
}

// credentialHeader reports whether a header, by its lower case name, may carry
// something that lets its holder in.
func credentialHeader(name string) bool {
	for _, part := range []string{"cookie", "auth", "token", "secret", "password", "session", "api-key", "apikey", "signature"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// originOf is all that is kept of a redirect's target: its path and query may be
// a capability.
func originOf(location string) string {
	u, err := url.Parse(location)
	if err != nil || u.Host == "" {
		return mask
	}
	return cleanText(u.Scheme+"://"+u.Host+"/"+mask, maxHeaderValue)
}
