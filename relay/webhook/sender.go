package webhook

import (
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/dot-do/relay/relay"
)

// SenderConfig is how requests are made.
type SenderConfig struct {
	Egress  Policy
	Timeout time.Duration  // of an attempt as a whole: lookup, connect, headers and body; default 15 s
	Version string         // for the user agent; default "dev"
	RootCAs *x509.CertPool // default: the system's
}

// Sender makes single attempts. It is safe for concurrent use; its connections
// are kept and shared.
type Sender struct {
	cfg       SenderConfig
	agent     string
	transport *http.Transport
}

// NewSender returns a Sender that has not connected to anything.
func NewSender(cfg SenderConfig) *Sender {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 15 * time.Second
	}
	if cfg.Version == "" {
		cfg.Version = "dev"
	}
	return &Sender{cfg: cfg, agent: "Relay/" + cfg.Version, transport: newTransport(cfg.Egress, cfg.Timeout, cfg.RootCAs)}
}

// Close gives up the idle connections.
func (s *Sender) Close() { s.transport.CloseIdleConnections() }

// Send makes one attempt to deliver d to the subscription's endpoint and tells
// what happened. It returns nil when ctx ended before the attempt did: nothing is
// known then, and nothing should be recorded.
func (s *Sender) Send(ctx context.Context, d relay.Delivery, sub *relay.Subscription) *relay.Attempt {
	a := &relay.Attempt{Number: d.Attempts + 1, StartedAt: time.Now(), TargetURL: sub.TargetURL}
	attemptCtx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	s.exchange(attemptCtx, a, d, sub)
	a.Duration = time.Since(a.StartedAt)
	if ctx.Err() != nil && a.StatusCode == 0 {
		return nil
	}
	return a
}

// exchange fills in the attempt.
func (s *Sender) exchange(ctx context.Context, a *relay.Attempt, d relay.Delivery, sub *relay.Subscription) {
	target, err := s.cfg.Egress.parse(sub.TargetURL)
	if err != nil {
		a.Error = describe(err)
		return
	}
	req := postRequest(ctx, target, d.Body)
	if err := s.setHeaders(req.Header, a, d, sub); err != nil {
		a.Error = classSecret + ": " + err.Error()
		return
	}
	// The transport sends a request again at once, on another connection, when a
	// kept connection turns out to be closed before a byte came back; for a POST
	// only when it is told that this is harmless. The empty list tells so and sends
	// no header. postRequest allows it once: an endpoint that hangs up on purpose
	// is not to be asked once for every connection that is kept.
	req.Header["Idempotency-Key"] = nil

	// The transport itself: a client on top would add redirects and cookies.
	res, err := s.transport.RoundTrip(req)
	if err != nil {
		a.Error = describe(err)
		return
	}
	defer func() { _ = res.Body.Close() }()
	a.StatusCode = res.StatusCode
	a.ResponseHeaders = responseHeaders(res.Header)
	if res.StatusCode == http.StatusSwitchingProtocols {
		a.Error = describeStatus(res.StatusCode) // its body is the connection
		return
	}
	// The status decides, whatever becomes of the body. A body that ends lets the
	// connection be used again.
	a.ResponseBody, _, _ = readBody(res.Body)
	if res.StatusCode < 200 || res.StatusCode > 299 {
		a.Error = describeStatus(res.StatusCode)
	}
}

// postRequest is what http.NewRequest builds, for a URL that is parsed already
// and a body that is sent a second time at most.
func postRequest(ctx context.Context, target *url.URL, body []byte) *http.Request {
	again := false
	req := (&http.Request{
		Method: http.MethodPost, URL: target, Host: target.Host, Header: make(http.Header, 12),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(body)), Body: http.NoBody,
		GetBody: func() (io.ReadCloser, error) {
			if again {
				return nil, io.ErrUnexpectedEOF // what ended the second one
			}
			again = true
			return io.NopCloser(bytes.NewReader(body)), nil
		},
	}).WithContext(ctx)
	if len(body) > 0 {
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	return req
}

// setHeaders signs the request for the time at which the attempt started. It
// leaves the log's copy of the headers, signatures masked, in the attempt.
func (s *Sender) setHeaders(h http.Header, a *relay.Attempt, d relay.Delivery, sub *relay.Subscription) error {
	id := relay.WebhookID(d.EventID, d.SubscriptionID)
	var standard, hub string
	if secrets := sub.SecretsAt(a.StartedAt); len(secrets) > 0 {
		var err error
		if standard, hub, err = signatures(secrets, id, a.StartedAt, d.Body); err != nil {
			return err
		}
	}
	logged := make(map[string]string, 8)
	values := make([]string, 0, 8) // one array for all the lists of one value
	set := func(name, lower, value, shown string) {
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
		logged[lower] = shown
	}
	timestamp, number := strconv.FormatInt(a.StartedAt.Unix(), 10), strconv.Itoa(a.Number)
	set("Content-Type", "content-type", "application/json", "application/json")
	set("Accept-Encoding", "accept-encoding", "identity", "identity")
	set("User-Agent", "user-agent", s.agent, s.agent)
	set(HeaderID, "webhook-id", id, id)
	set(HeaderTimestamp, "webhook-timestamp", timestamp, timestamp)
	set(HeaderAttempt, "webhook-attempt", number, number)
	if standard != "" {
		set(HeaderSignature, "webhook-signature", standard, masked(standard))
	}
	if hub != "" {
		set(HeaderHubSignature, "x-hub-signature-256", hub, "sha256="+mask)
	}
	a.RequestHeaders = logged
	return nil
}
