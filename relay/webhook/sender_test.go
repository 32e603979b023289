package webhook

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
)

func loopback() Policy {
	return Policy{HTTP: true, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
}

func testSender(t *testing.T, timeout time.Duration) *Sender {
	s := NewSender(SenderConfig{Egress: loopback(), Timeout: timeout, Version: "1.2.3"})
	t.Cleanup(s.Close)
	return s
}

func serve(t *testing.T, h http.HandlerFunc) string {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// serveRaw answers every connection, after the request's head was read, with
// what write sends.
func serveRaw(t *testing.T, write func(c net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					write(c)
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func send(t *testing.T, s *Sender, url string, secretTexts ...string) *relay.Attempt {
	t.Helper()
	d := relay.Delivery{EventID: "evt_1", EventType: "thing.updated", SubscriptionID: "sub-1", Body: []byte(`{"n":1.0}`), Attempts: 2}
	a := s.Send(t.Context(), d, &relay.Subscription{ID: "sub-1", TargetURL: url, Secrets: secrets(secretTexts...)})
	require.NotNil(t, a)
	require.Equal(t, 3, a.Number)
	require.Equal(t, url, a.TargetURL)
	return a
}

func TestRequestCarriesTheExactBodyAndSignaturesTheLibraryAccepts(t *testing.T) {
	var got *http.Request
	var body []byte
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("X-Reply", "1")
		_, _ = w.Write([]byte("thanks"))
	})
	a := send(t, testSender(t, time.Second), url+"/hook?key=1", goldenSecret, otherSecret)
	require.Empty(t, a.Error)
	require.Equal(t, 200, a.StatusCode)
	require.Equal(t, "thanks", a.ResponseBody)
	require.Equal(t, "1", a.ResponseHeaders["x-reply"])

	require.Equal(t, `{"n":1.0}`, string(body))
	require.Equal(t, "POST /hook?key=1", got.Method+" "+got.RequestURI)
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))
	require.Equal(t, "Relay/1.2.3", got.Header.Get("User-Agent"))
	require.Equal(t, "identity", got.Header.Get("Accept-Encoding"))
	require.Equal(t, "3", got.Header.Get("Webhook-Attempt"))
	require.Equal(t, relay.WebhookID("evt_1", "sub-1"), got.Header.Get("Webhook-Id"))
	require.NotContains(t, got.Header, "Idempotency-Key")
	require.Equal(t, hubSignature(goldenSecret, body), got.Header.Get("X-Hub-Signature-256"))
	for _, s := range []string{goldenSecret, otherSecret} {
		lib, err := standardwebhooks.NewWebhook(s)
		require.NoError(t, err)
		require.NoError(t, lib.Verify(body, got.Header))
	}

	require.Equal(t, "v1,*** v1,***", a.RequestHeaders["webhook-signature"])
	require.Equal(t, "sha256=***", a.RequestHeaders["x-hub-signature-256"])
	require.Equal(t, got.Header.Get("Webhook-Timestamp"), a.RequestHeaders["webhook-timestamp"])
}

func TestRequestIsSignedWithTheRetiringSecretUntilItsTime(t *testing.T) {
	var got http.Header
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header })
	for _, overlap := range []time.Duration{time.Hour, -time.Nanosecond} {
		sub := &relay.Subscription{
			ID: "sub-1", TargetURL: url, Secrets: secrets(goldenPrivate),
			Retiring: &relay.RetiringSecret{Secret: secret.New(otherSecret), Until: time.Now().Add(overlap)},
		}
		a := testSender(t, time.Second).Send(t.Context(), relay.Delivery{EventID: "evt_1", SubscriptionID: "sub-1", Body: []byte("{}")}, sub)
		require.Empty(t, a.Error)
		require.NoError(t, Verify(secrets(goldenPublic), got, []byte("{}"), time.Now()))
		if overlap > 0 {
			require.NoError(t, Verify(secrets(otherSecret), got, []byte("{}"), time.Now()))
			require.Equal(t, hubSignature(otherSecret, []byte("{}")), got.Get("X-Hub-Signature-256"))
			require.Equal(t, "v1a,*** v1,***", a.RequestHeaders["webhook-signature"])
			continue
		}
		require.ErrorIs(t, Verify(secrets(otherSecret), got, []byte("{}"), time.Now()), ErrBadSignature)
		require.NotContains(t, got, "X-Hub-Signature-256", "nobody could check it")
		require.NotContains(t, a.RequestHeaders, "x-hub-signature-256")
	}
}

func TestRequestWithoutSecretIsUnsigned(t *testing.T) {
	var got http.Header
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header })
	a := send(t, testSender(t, time.Second), url)
	require.Empty(t, a.Error)
	require.NotContains(t, got, "Webhook-Signature")
	require.NotContains(t, got, "X-Hub-Signature-256")
	require.Contains(t, got, "Webhook-Id")
}

func TestRedirectsAreNeverFollowed(t *testing.T) {
	var followed atomic.Int64
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	for _, code := range []int{301, 302, 303, 307, 308} {
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere+"/capability")
			w.WriteHeader(code)
		})
		a := send(t, testSender(t, time.Second), url)
		require.Equal(t, code, a.StatusCode)
		require.Equal(t, "status", FailureClass(a.Error))
		require.NotContains(t, a.ResponseHeaders["location"], "capability")
	}
	require.Zero(t, followed.Load())
}

func TestOneDeadlineCoversConnectHeadersAndBody(t *testing.T) {
	t.Parallel()
	const timeout = 150 * time.Millisecond
	trickle := func(c net.Conn, text string) {
		for _, b := range []byte(text) {
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts by its backlog, never answers
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	for name, tc := range map[string]struct {
		url    string
		status int
		class  string
	}{
		"silence":              {"http://" + silent.Addr().String(), 0, "timeout"},
		"no TLS handshake":     {"https://" + silent.Addr().String(), 0, "timeout"},
		"headers byte by byte": {serveRaw(t, func(c net.Conn) { trickle(c, "HTTP/1.1 200 OK\r\n"+strings.Repeat("X-A: b\r\n", 100)) }), 0, "timeout"},
		"500, body trickles": {serveRaw(t, func(c net.Conn) {
			_, _ = c.Write([]byte("HTTP/1.1 500 Oops\r\nContent-Length: 100000\r\n\r\n"))
			trickle(c, strings.Repeat("x", 1000))
		}), 500, "status"},
		"200, body trickles": {serveRaw(t, func(c net.Conn) {
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"))
			trickle(c, strings.Repeat("x", 1000))
		}), 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := send(t, testSender(t, timeout), tc.url)
			require.Equal(t, tc.status, a.StatusCode)
			require.Equal(t, tc.class, FailureClass(a.Error), a.Error)
			require.GreaterOrEqual(t, a.Duration, timeout)
			require.Less(t, a.Duration, 20*timeout)
		})
	}
}

func TestBadAnswersFailWithAStableClass(t *testing.T) {
	answer := func(text string) string {
		return serveRaw(t, func(c net.Conn) { _, _ = c.Write([]byte(text)) })
	}
	resetAfter := func(text string) string {
		return serveRaw(t, func(c net.Conn) {
			_, _ = c.Write([]byte(text))
			_ = c.(*net.TCPConn).SetLinger(0)
		})
	}
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	for name, tc := range map[string]struct {
		url    string
		status int
		class  string
	}{
		"closed before status":     {serveRaw(t, func(net.Conn) {}), 0, "reset"},
		"reset before status":      {serveRaw(t, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }), 0, "reset"},
		"status line cut":          {answer("HTTP/1.1 20"), 0, "protocol"},
		"not HTTP":                 {answer("SSH-2.0-OpenSSH_9.6\r\n"), 0, "protocol"},
		"NUL in a header":          {answer("HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n"), 0, "protocol"},
		"a megabyte of headers":    {answer("HTTP/1.1 200 OK\r\nX-Big: " + strings.Repeat("x", 1<<20) + "\r\n\r\n"), 0, "protocol"},
		"many headers":             {answer("HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: b\r\n", 20_000) + "\r\n"), 0, "protocol"},
		"bad content length":       {answer("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), 0, "protocol"},
		"two content lengths":      {answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), 0, "protocol"},
		"ten thousand 103s":        {answer(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 10_000) + "HTTP/1.1 200 OK\r\n\r\n"), 0, "protocol"},
		"ten thousand 100s":        {answer(strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 10_000) + "HTTP/1.1 200 OK\r\n\r\n"), 0, "protocol"},
		"folded header":            {answer("HTTP/1.1 200 OK\r\nX-A: a\r\n\tb\r\nContent-Length: 0\r\n\r\n"), 200, ""},
		"folding before a header":  {answer("HTTP/1.1 200 OK\r\n X-A: a\r\n\r\n"), 0, "protocol"},
		"header without a colon":   {answer("HTTP/1.1 200 OK\r\nX-A\r\n\r\n"), 0, "protocol"},
		"header name with a blank": {answer("HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 0\r\n\r\n"), 200, ""},
		"bytes that are no text":   {answer("HTTP/1.1 200 OK\r\nX-A: \xff\xfe\r\nContent-Length: 2\r\n\r\n\xff\x00"), 200, ""},
		"500, reset in the body":   {resetAfter("HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nhalf"), 500, "status"},
		"200, reset in the body":   {resetAfter("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), 200, ""},
		"three 103s":               {answer(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 3) + "HTTP/1.1 200 OK\r\n\r\n"), 200, ""},
		"101":                      {answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"), 101, "status"},
		"status 000":               {answer("HTTP/1.1 000 None\r\n\r\n"), 0, "status"},
		"status 999":               {answer("HTTP/1.1 999 Odd\r\n\r\n"), 999, "status"},
		"204 with a body":          {answer("HTTP/1.1 204 No Content\r\n\r\nbody"), 204, ""},
		"body shorter than told":   {answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"), 200, ""},
		"chunked garbage":          {answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzzz\r\n"), 200, ""},
		"gzip that nobody asked":   {answer("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\n\x1f\x8b\x08\x00\x00\xff"), 200, ""},
		"404":                      {serve(t, http.NotFound), 404, "status"},
		"plain http behind https":  {strings.Replace(plain, "http:", "https:", 1), 0, "tls"},
		"connect to port 1":        {"http://127.0.0.1:1", 0, "connect"},
		"name that does not exist": {"https://does-not-exist.invalid/x", 0, "dns"},
	} {
		t.Run(name, func(t *testing.T) {
			a := send(t, testSender(t, 2*time.Second), tc.url)
			require.Equal(t, tc.status, a.StatusCode, a.Error)
			require.Equal(t, tc.class, FailureClass(a.Error), a.Error)
			require.NotContains(t, a.Error, "127.0.0.1")
			require.NotContains(t, a.Error, "invalid/x")
		})
	}
}

func TestEndlessBodyStopsAtTheCap(t *testing.T) {
	stopped := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		defer close(stopped)
		for {
			if _, err := w.Write([]byte(strings.Repeat("spam ", 1000))); err != nil {
				return
			}
		}
	})
	a := send(t, testSender(t, 10*time.Second), url)
	require.Empty(t, a.Error)
	require.Len(t, a.ResponseBody, maxBody)
	require.True(t, strings.HasSuffix(a.ResponseBody, cutMark))
	require.Less(t, a.Duration, 5*time.Second)
	<-stopped
}

func TestConnectionsAreReusedWhenTheAnswerEnds(t *testing.T) {
	var opened atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	s := testSender(t, time.Second)
	for range 20 {
		require.Empty(t, send(t, s, srv.URL).Error)
	}
	require.Equal(t, int64(1), opened.Load())
}

func TestKeptConnectionThatDiedIsReplacedWithinTheAttempt(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	s := testSender(t, time.Second)
	require.Empty(t, send(t, s, srv.URL).Error)
	srv.CloseClientConnections()
	require.Empty(t, send(t, s, srv.URL).Error)
}

func TestAnEndpointThatHangsUpIsAskedTwiceAtMostHoweverManyConnectionsAreKept(t *testing.T) {
	const kept = 8
	var together sync.WaitGroup
	together.Add(kept)
	var asked atomic.Int64
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hangup" {
			asked.Add(1)
			panic(http.ErrAbortHandler)
		}
		together.Done()
		together.Wait()
	})
	s := testSender(t, 5*time.Second)
	var sent sync.WaitGroup
	for range kept {
		sent.Go(func() { send(t, s, url+"/fine") })
	}
	sent.Wait()
	require.Equal(t, "reset", FailureClass(send(t, s, url+"/hangup").Error))
	require.Equal(t, int64(2), asked.Load())
}

func TestCertificatesAreAlwaysVerified(t *testing.T) {
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	start := func(t *testing.T, cfg *tls.Config) (*httptest.Server, *x509.CertPool) {
		srv := httptest.NewUnstartedServer(handler)
		srv.TLS = cfg
		srv.EnableHTTP2 = true
		srv.StartTLS()
		t.Cleanup(srv.Close)
		roots := x509.NewCertPool()
		roots.AddCert(srv.Certificate())
		return srv, roots
	}
	post := func(url string, roots *x509.CertPool) *relay.Attempt {
		s := NewSender(SenderConfig{Egress: loopback(), Timeout: 2 * time.Second, RootCAs: roots})
		defer s.Close()
		return send(t, s, url)
	}
	t.Run("known authority", func(t *testing.T) {
		srv, roots := start(t, nil)
		require.Empty(t, post(srv.URL, roots).Error)
	})
	t.Run("unknown authority", func(t *testing.T) {
		srv, _ := start(t, nil)
		require.Equal(t, "tls: certificate is signed by an unknown authority", post(srv.URL, nil).Error)
	})
	t.Run("another host", func(t *testing.T) {
		srv, roots := start(t, nil)
		require.Equal(t, "tls: certificate is for another host", post(strings.Replace(srv.URL, "127.0.0.1", "localhost", 1), roots).Error)
	})
	t.Run("TLS 1.1", func(t *testing.T) {
		srv, roots := start(t, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
		require.Equal(t, "tls", FailureClass(post(srv.URL, roots).Error))
	})
}

func TestSendReturnsNothingWhenItsContextEnds(t *testing.T) {
	arrived := make(chan struct{})
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	require.Nil(t, testSender(t, 5*time.Second).Send(ctx, relay.Delivery{}, &relay.Subscription{TargetURL: url}))
}

func TestEveryAttemptHasItsOwnTimestampAndTheSameID(t *testing.T) {
	var ids, stamps []string
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		ids = append(ids, r.Header.Get(HeaderID))
		stamps = append(stamps, r.Header.Get(HeaderTimestamp))
	})
	s := testSender(t, time.Second)
	before := time.Now().Unix()
	send(t, s, url, goldenSecret)
	send(t, s, url, goldenSecret)
	require.Equal(t, ids[0], ids[1])
	for _, stamp := range stamps {
		var seconds int64
		_, err := fmt.Sscan(stamp, &seconds)
		require.NoError(t, err)
		require.InDelta(t, before, seconds, 2)
	}
}
