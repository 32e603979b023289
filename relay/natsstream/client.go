package natsstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/internal/secret"
)

const (
	connectTimeout  = 5 * time.Second
	apiTimeout      = 10 * time.Second // of one question to the server
	pingInterval    = 5 * time.Second  // two unanswered pings end a connection
	reconnectWait   = 250 * time.Millisecond
	reconnectJitter = 250 * time.Millisecond

	// The sequence chain keeps duplicates out, however long ago the first was
	// stored. The server's own window is a second net, and a dear one: it keeps
	// about 100 bytes for every id in it, more than a gigabyte for two minutes of a
	// large backfill, and reads the window's messages again when it starts.
	duplicates = 2 * time.Second
)

// Config configures Connect.
type Config struct {
	URL      secret.String // nats://[user:password@]host:port, several joined by commas
	Embedded *Embedded     // the server in this process; URL is then not used

	Stream string // name of the stream; default EVENTS
	Source string // names the events' origin in ce-source: the slot; default relay
	Name   string // of the connection, for the server's operator; default relay

	// What EnsureStream makes. A stream that exists is never changed.
	MaxAge     time.Duration // events are kept this long; default 7 days
	MaxBytes   int64         // a full stream refuses new events; default without limit
	Replicas   int           // default 1
	Duplicates time.Duration // window in which the server knows Nats-Msg-Id again; default 2s

	// MessageIDs gives every message the event's id as Nats-Msg-Id, by which the server
	// leaves out those it has seen within Duplicates. The fence does not need it, and it
	// costs the server a quarter of its rate; ce-id carries the id in any case.
	MessageIDs bool

	// Batches is how messages travel to a stream that takes them so; default BatchesFast.
	Batches Batches

	AckTimeout time.Duration // an append without any acknowledgement for this long has failed; default 10s

	Logger *slog.Logger // default slog.Default()

	// OnState, when set, is told when the connection comes and goes; err says why
	// it went. It must return soon.
	OnState func(connected bool, err error)
}

// Client is a connection to the stream that lasts until Close, through any number
// of server restarts. It is safe for concurrent use.
type Client struct {
	cfg  Config
	log  *slog.Logger
	nc   *nats.Conn
	js   jetstream.JetStream
	link *link
	tap  *tap
	once sync.Once
}

// Connect connects and makes sure that there is JetStream. Later breaks heal by
// themselves; only the first connection must succeed. What no later attempt can
// mend is a *relay.SetupError. No error holds credentials.
func Connect(ctx context.Context, cfg Config) (*Client, error) {
	cfg.setDefaults()
	hosts, err := hosts(cfg)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, log: cfg.Logger.With("component", "nats"), link: newLink(), tap: &tap{timeout: cfg.AckTimeout}}
	c.nc, err = nats.Connect(cfg.URL.Reveal(), c.options(ctx)...)
	if err != nil {
		return nil, connectError(hosts, err)
	}
	if c.js, err = jetstream.New(c.nc, jetstream.WithDefaultTimeout(apiTimeout)); err != nil {
		c.Close()
		return nil, fmt.Errorf("connect to NATS at %s: %w", hosts, err)
	}
	if _, err := c.js.AccountInfo(ctx); err != nil {
		c.Close()
		return nil, jetStreamError(hosts, err)
	}
	if cfg.OnState != nil {
		cfg.OnState(true, nil)
	}
	return c, nil
}

func (cfg *Config) setDefaults() {
	orDefault(&cfg.Stream, "EVENTS")
	orDefault(&cfg.Source, "relay")
	orDefault(&cfg.Name, "relay")
	orDefault(&cfg.MaxAge, 7*24*time.Hour)
	orDefault(&cfg.MaxBytes, -1)
	orDefault(&cfg.Replicas, 1)
	orDefault(&cfg.Duplicates, duplicates)
	orDefault(&cfg.AckTimeout, 10*time.Second)
	orDefault(&cfg.Batches, BatchesFast)
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Client) options(ctx context.Context) []nats.Option {
	timeout := connectTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(deadline), time.Millisecond))
	}
	opts := []nats.Option{
		nats.Name(c.cfg.Name),
		nats.Timeout(timeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.IgnoreAuthErrorAbort(), // credentials may be put right while we wait
		// What is written while there is no connection fails at once: sent later it
		// would be out of date.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(c.cfg.AckTimeout), // a frozen server blocks a write no longer
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) { c.state(nc, false, err) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { c.state(nc, true, nil) }),
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) {
			c.log.Warn("nats reports an error", "error", err)
			if credentials(err) && !nc.IsConnected() && c.cfg.OnState != nil {
				c.cfg.OnState(false, fmt.Errorf("check the credentials in RELAY_NATS_URL: %w", err))
			}
		}),
	}
	c.tap.dialer.Timeout = timeout
	if c.cfg.Embedded != nil {
		c.tap.inside = c.cfg.Embedded.srv
		return append(opts, nats.InProcessServer(c.tap), c.cfg.Embedded.credentials())
	}
	return append(opts, nats.SetCustomDialer(c.tap))
}

// wrapped reports whether the library writes something else to its connection than
// the plain protocol.
func (c *Client) wrapped() bool {
	_, err := c.nc.TLSConnectionState()
	return err == nil || strings.HasPrefix(c.nc.ConnectedUrl(), "ws")
}

// state follows the connection. The library calls its handlers one after the other.
func (c *Client) state(nc *nats.Conn, connected bool, err error) {
	c.link.set(connected)
	switch {
	case connected:
		c.log.Info("nats connected", "server", nc.ConnectedServerName())
	case !nc.IsClosed():
		c.log.Warn("nats connection lost", "error", err)
	}
	if c.cfg.OnState != nil {
		c.cfg.OnState(connected, err)
	}
}

// Connected reports whether there is a connection right now.
func (c *Client) Connected() bool { return c.nc.IsConnected() }

// Close sends what is written, such as acks, and closes the connection. Feeds and
// writers of the client are of no use afterwards.
func (c *Client) Close() {
	c.once.Do(func() {
		if c.nc.IsConnected() {
			_ = c.nc.FlushTimeout(time.Second) // an ack that is lost costs a redelivery
		}
		c.nc.Close()
		c.link.close()
	})
}

// hosts lists the servers for messages, without credentials.
func hosts(cfg Config) (string, error) {
	if cfg.Embedded != nil {
		return "the embedded server", nil
	}
	const remedy = "set RELAY_NATS_URL to nats://host:port, or leave it empty for the embedded server"
	var names []string
	for part := range strings.SplitSeq(cfg.URL.Reveal(), ",") {
		if part = strings.TrimSpace(part); !strings.Contains(part, "://") {
			part = "nats://" + part
		}
		u, err := url.Parse(part)
		if err != nil || u.Hostname() == "" {
			// The cause would quote the URL and the password in it.
			return "", setupErrorf(remedy, "NATS address number %d is not a URL", len(names)+1)
		}
		names = append(names, u.Host)
	}
	return strings.Join(names, ","), nil
}

func connectError(hosts string, err error) error {
	err = fmt.Errorf("connect to NATS at %s: %w", hosts, err)
	if credentials(err) {
		return setupErrorf("check the credentials in RELAY_NATS_URL", "%w", err)
	}
	return fmt.Errorf("%w; check that the server runs, and its address in RELAY_NATS_URL", err)
}

// credentials reports whether the server does not take them.
func credentials(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked)
}

func jetStreamError(hosts string, err error) error {
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return setupErrorf("start it with JetStream (nats-server -js)", "NATS at %s: %w", hosts, err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return setupErrorf("enable JetStream for the account in RELAY_NATS_URL", "NATS at %s: %w", hosts, err)
	}
	return fmt.Errorf("ask NATS at %s for JetStream: %w", hosts, err)
}
