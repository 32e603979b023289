package natsstream

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/dot-do/relay/relay"
)

const (
	embeddedMaxPayload = 8 << 20
	embeddedReady      = 10 * time.Second
	noListener         = "-"

	writerUser = "relay"
	guestUser  = "guest" // whoever comes without credentials
)

// EmbeddedConfig configures StartEmbedded. The server syncs to disk every two
// minutes: a power cut can take what the slot then must still hold.
type EmbeddedConfig struct {
	Dir        string       // of the store; made when missing. Required
	Listen     string       // host:port for other NATS clients, port 0 picks one; "-" for none. Required
	MaxPayload int          // largest message in bytes, headers included; default 8 MiB
	Logger     *slog.Logger // default slog.Default()
}

// Embedded is a NATS server with JetStream inside this process.
//
// Clients of its listener need no credentials: they may subscribe, and publish on
// subjects of their own. The subjects of the events are the relay's alone.
type Embedded struct {
	srv      *server.Server
	lock     *os.File
	password string // of the relay's own connection
}

// StartEmbedded starts a server and returns when it serves. The server does not
// touch the process' signals, and takes a lock on its directory: two relays never
// share a store. A port or directory that cannot be used is a *relay.SetupError.
func StartEmbedded(ctx context.Context, cfg EmbeddedConfig) (*Embedded, error) {
	if cfg.MaxPayload <= 0 {
		cfg.MaxPayload = embeddedMaxPayload
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	opts, err := embeddedOptions(ctx, cfg)
	if err != nil {
		return nil, err
	}
	password := rand.Text()
	opts.CustomClientAuthentication = admission(password)
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	e := &Embedded{lock: lock, password: password}
	if err := e.start(ctx, cfg, opts); err != nil {
		e.Shutdown()
		return nil, err
	}
	return e, nil
}

func embeddedOptions(ctx context.Context, cfg EmbeddedConfig) (*server.Options, error) {
	opts := &server.Options{
		ServerName: "relay",
		JetStream:  true,
		StoreDir:   cfg.Dir,
		MaxPayload: int32(cfg.MaxPayload),
		NoSigs:     true,

		SyncInterval: EmbeddedSync,
	}
	if cfg.Listen == noListener {
		opts.DontListen = true
		return opts, nil
	}
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err == nil {
		opts.Host = host
		opts.Port, err = strconv.Atoi(port)
	}
	if err != nil || opts.Port < 0 || opts.Port > 65535 {
		return nil, setupErrorf("set RELAY_NATS_LISTEN to host:port, or to - for no listener",
			"RELAY_NATS_LISTEN %q is not an address", cfg.Listen)
	}
	if opts.Host == "" {
		opts.Host = "0.0.0.0"
	}
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
		return opts, nil
	}
	// The server only logs that a port is taken, so ask beforehand.
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, setupErrorf("stop the process that listens there, or set RELAY_NATS_LISTEN to another address (- for none)",
			"embedded NATS server cannot listen on %s: %w", cfg.Listen, err)
	}
	return opts, l.Close()
}

func (e *Embedded) start(ctx context.Context, cfg EmbeddedConfig, opts *server.Options) error {
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("configure embedded NATS server: %w", err)
	}
	e.srv = srv
	log := newServerLog(ctx, cfg.Logger)
	srv.SetLoggerV2(log, log.debug, false, false)
	srv.Start() // returns when the store is read and the listener is open
	if fatal := log.fatal(); fatal != nil {
		return setupErrorf("check RELAY_NATS_DIR and RELAY_NATS_LISTEN",
			"embedded NATS server in %s, listening on %s, does not start: %w", cfg.Dir, cfg.Listen, fatal)
	}
	if !srv.ReadyForConnections(embeddedReady) || !srv.JetStreamEnabled() {
		return fmt.Errorf("embedded NATS server in %s is not ready after %s", cfg.Dir, embeddedReady)
	}
	return ctx.Err()
}

// Addr is where other clients reach the server, nil without a listener.
func (e *Embedded) Addr() net.Addr { return e.srv.Addr() }

// admission lets every client in: the relay as the writer, all others as guests
// who cannot publish events. The string is the writer's password.
type admission string

// Check implements server.Authentication.
func (a admission) Check(c server.ClientAuthentication) bool {
	given := c.GetOpts()
	if given.Username == writerUser && subtle.ConstantTimeCompare([]byte(given.Password), []byte(a)) == 1 {
		c.RegisterUser(&server.User{Username: writerUser})
		return true
	}
	c.RegisterUser(&server.User{Username: guestUser, Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Deny: []string{eventSubjects, controlSubjects}},
	}})
	return true
}

// credentials are those of the writer.
func (e *Embedded) credentials() nats.Option { return nats.UserInfo(writerUser, e.password) }

// Shutdown ends the server and waits until its store is closed. Calling it twice
// is harmless.
func (e *Embedded) Shutdown() {
	if e.srv != nil {
		e.srv.Shutdown()
		e.srv.WaitForShutdown()
	}
	_ = e.lock.Close() // gives the lock back
}

// lockDir makes the directory, proves that it can be written, and locks it.
func lockDir(dir string) (*os.File, error) {
	if dir == "" {
		return nil, setupErrorf("set RELAY_NATS_DIR to a directory of the relay's own", "embedded NATS server has no store directory")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unusableDir(dir, err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "relay.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, unusableDir(dir, err)
	}
	if err := lockFile(file); err != nil {
		_ = file.Close()
		if errors.Is(err, errLocked) {
			return nil, setupErrorf("stop the other relay, or set RELAY_NATS_DIR to another directory",
				"NATS store %s is in use by another relay", dir)
		}
		return nil, unusableDir(dir, err)
	}
	return file, nil
}

func unusableDir(dir string, err error) error {
	return setupErrorf("set RELAY_NATS_DIR to a directory that the relay may write", "NATS store %s cannot be used: %w", dir, err)
}

func setupErrorf(remedy, format string, args ...any) error {
	return &relay.SetupError{Err: fmt.Errorf(format, args...), Remedy: remedy}
}
