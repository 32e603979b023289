package webhook

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

func TestAGzipBombIsKeptAsTheFewBytesThatWereSent(t *testing.T) {
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range 64 {
		_, err := w.Write(zeros)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.Greater(t, bomb.Len(), maxBody)
	var asked string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.Header.Get("Accept-Encoding")
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	})
	a := send(t, testSender(t, 5*time.Second), url)
	require.Empty(t, a.Error)
	require.Equal(t, "identity", asked)
	require.Equal(t, "gzip", a.ResponseHeaders["content-encoding"])
	require.LessOrEqual(t, len(a.ResponseBody), maxBody)
	require.Equal(t, loggedBody(bomb.Bytes()[:maxBody+1], false), a.ResponseBody, "not inflated")
}

// certificate makes a self-signed certificate for 127.0.0.1.
func certificate(t *testing.T, from, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: from, NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestACertificateThatFailsIsRetriedAndNothingIsSentInPlainText(t *testing.T) {
	now := time.Now()
	good, expired := certificate(t, now.Add(-time.Hour), now.Add(time.Hour)), certificate(t, now.Add(-time.Hour), now.Add(-time.Minute))
	early := certificate(t, now.Add(time.Hour), now.Add(2*time.Hour))
	for name, tc := range map[string]struct {
		cert    tls.Certificate
		trusted bool
		want    string
	}{
		"good":          {good, true, ""},
		"self-signed":   {good, false, "tls: certificate is signed by an unknown authority"},
		"expired":       {expired, true, "tls: certificate has expired or is not yet valid"},
		"not yet valid": {early, true, "tls: certificate has expired or is not yet valid"},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var first []byte
			handled := 0
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { handled++ }))
			srv.Listener = &tapped{Listener: srv.Listener, saw: func(b byte) { mu.Lock(); first = append(first, b); mu.Unlock() }}
			srv.TLS = &tls.Config{Certificates: []tls.Certificate{tc.cert}, MinVersion: tls.VersionTLS12}
			srv.StartTLS()
			defer srv.Close()
			roots := x509.NewCertPool()
			if tc.trusted {
				roots.AddCert(tc.cert.Leaf)
			}
			s := NewSender(SenderConfig{Egress: loopback(), Timeout: 5 * time.Second, RootCAs: roots})
			defer s.Close()
			a := send(t, s, srv.URL)
			require.Equal(t, tc.want, a.Error)
			out := retryPolicy{}.outcome(relay.Delivery{}, &relay.Subscription{MaxRetries: 5, Backoff: time.Second}, a, 0.5)
			s.Close()
			srv.Close()
			mu.Lock()
			defer mu.Unlock()
			require.NotEmpty(t, first)
			for _, b := range first {
				require.Equal(t, byte(0x16), b, "every connection begins with a TLS handshake")
			}
			if tc.want != "" {
				require.Zero(t, handled)
				require.Equal(t, relay.Retry, out.Kind)
			}
		})
	}
}

// tapped tells the first byte of every connection.
type tapped struct {
	net.Listener
	saw func(byte)
}

func (l *tapped) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tappedConn{Conn: c, saw: l.saw}, nil
}

type tappedConn struct {
	net.Conn
	saw  func(byte)
	once sync.Once
}

func (c *tappedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.once.Do(func() { c.saw(p[0]) })
	}
	return n, err
}

func TestAConnectionWithASpoiltAnswerIsNotUsedAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		answer string
		again  bool
	}{
		"a good answer":           {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true},
		"chunked garbage":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzzz\r\n", false},
		"longer than told":        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false},
		"204 with a body":         {"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 500 Smuggled\r\nContent-Length: 0\r\n\r\n", false},
		"more than the cap":       {"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("x", 20000), false},
		"101":                     {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", false},
		"a header of a megabyte":  {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\nContent-Length: 0\r\n\r\n", false},
		"asked to close":          {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", false},
		"content length not said": {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			target, ended, counts := serveAlong(t, tc.answer)
			s := testSender(t, 2*time.Second)
			for i := range 3 {
				a := send(t, s, target)
				require.NotEqual(t, 500, a.StatusCode, "an answer to nobody is taken for one")
				if !tc.again {
					require.Eventually(t, func() bool { return ended() == i+1 }, 5*time.Second, time.Millisecond, "it is closed")
				}
			}
			if most := slices.Max(counts()); tc.again {
				require.Equal(t, 3, most)
			} else {
				require.Equal(t, 1, most)
			}
		})
	}
}

// serveAlong gives the same answer to every request and leaves the connection open.
// ended tells how many connections the sender has closed, counts how many requests
// each of them brought.
func serveAlong(t *testing.T, answer string) (target string, ended func() int, counts func() []int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	var requests []int
	var over int
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	along := func(c net.Conn, i int) {
		defer c.Close()
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				mu.Lock()
				over++
				mu.Unlock()
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			mu.Lock()
			requests[i]++
			mu.Unlock()
			_, _ = c.Write([]byte(answer)) // the next request, or its absence, tells
		}
	}
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			requests = append(requests, 0)
			i := len(requests) - 1
			mu.Unlock()
			serving.Go(func() { along(c, i) })
		}
	})
	ended = func() int {
		mu.Lock()
		defer mu.Unlock()
		return over
	}
	counts = func() []int {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(requests)
	}
	return "http://" + l.Addr().String(), ended, counts
}

// Nothing of a subscription or an event but the body and the path is sent as it is:
// there are no headers of one's own that could override or split others.
func TestARequestCarriesItsOwnHeadersAndNoOthersWhateverTheRowsSay(t *testing.T) {
	const evil = "x\r\nX-Injected: 1\r\n\r\nPOST /admin HTTP/1.1\r\n\x00"
	got := make(chan *http.Request, 1)
	target := serve(t, func(_ http.ResponseWriter, r *http.Request) { got <- r })
	s := testSender(t, 5*time.Second)
	for name, tc := range map[string]struct{ event, kind, sub, secret string }{
		"ordinary":   {"evt_1", "thing.updated", "sub-1", goldenSecret},
		"event":      {evil, "thing.updated", "sub-1", goldenSecret},
		"type":       {"evt_1", evil, "sub-1", goldenSecret},
		"webhook":    {"evt_1", "thing.updated", evil, goldenSecret},
		"secret":     {"evt_1", "thing.updated", "sub-1", evil},
		"everything": {evil, evil, evil, "whsec_" + evil},
	} {
		d := relay.Delivery{EventID: tc.event, EventType: tc.kind, SubscriptionID: tc.sub, Body: []byte(`{"a":1}`)}
		a := s.Send(t.Context(), d, &relay.Subscription{ID: tc.sub, TargetURL: target + "/hook", Secrets: secrets(tc.secret)})
		require.Empty(t, a.Error, name)
		r := <-got
		var names []string
		for header, values := range r.Header {
			names = append(names, header)
			require.Len(t, values, 1, header)
			require.NotContains(t, values[0], "Injected")
		}
		require.ElementsMatch(t, []string{
			"Accept-Encoding", "Content-Length", "Content-Type", "User-Agent",
			"Webhook-Attempt", "Webhook-Id", "Webhook-Signature", "Webhook-Timestamp", "X-Hub-Signature-256",
		}, names, name)
		require.Equal(t, strings.TrimPrefix(target, "http://"), r.Host)
		require.Equal(t, "/hook", r.RequestURI)
		require.Equal(t, int64(7), r.ContentLength)
		require.Regexp(t, `^msg_[a-z2-7]{26}$`, r.Header.Get("Webhook-Id"))
	}
}
