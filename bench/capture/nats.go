package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsEnv holds the path of a configuration file in the environment of a NATS server,
// which is this program started again.
const natsEnv = "RELAY_BENCH_NATS"

// serveNATS is a NATS server until it is killed, in a process that was started as one.
func serveNATS() (served bool, err error) {
	config := os.Getenv(natsEnv)
	if config == "" {
		return false, nil
	}
	opts, err := server.ProcessConfigFile(config)
	if err != nil {
		return true, err
	}
	opts.NoLog = true
	srv, err := server.NewServer(opts)
	if err != nil {
		return true, err
	}
	srv.Start()
	if !srv.ReadyForConnections(patience) {
		return true, errors.New("the NATS server does not get ready")
	}
	_, _ = fmt.Fprintln(os.Stderr, natsSays+srv.ClientURL())
	srv.WaitForShutdown()
	return true, nil
}

const natsSays = "serving at "

// natsServer is a server in a process of its own, with a new store.
type natsServer struct {
	*child
	dir, url string
	durable  bool
}

// startNATS starts a server; durable makes it sync every write before it answers.
func (s *stage) startNATS(ctx context.Context, durable bool) (*natsServer, error) {
	dir, err := os.MkdirTemp(s.dir, "nats-")
	if err != nil {
		return nil, err
	}
	sync := ""
	if durable {
		sync = "sync_interval: always"
	}
	config := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("listen: \"127.0.0.1:-1\"\njetstream {\n store_dir: %q\n %s\n}\n", filepath.Join(dir, "store"), sync)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n := &natsServer{dir: dir, durable: durable}
	if n.child, err = start(ctx, append(os.Environ(), natsEnv+"="+config), self); err != nil {
		return nil, err
	}
	said, err := n.await(ctx, natsSays)
	if err != nil {
		n.close()
		return nil, err
	}
	n.url = said.text[len(natsSays):]
	return n, nil
}

func (n *natsServer) close() {
	n.kill()
	_ = os.RemoveAll(n.dir) // the stage's directory goes as a whole
}

// stream is the relay's stream, looked at over a connection of the benchmark.
type stream struct {
	nc *nats.Conn
	js jetstream.JetStream
}

func connect(url string) (*stream, error) {
	nc, err := nats.Connect(url, nats.Name("bench"))
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	return &stream{nc, js}, err
}

// streamName is the relay's default.
const streamName = "EVENTS"

// look returns the stream's state; the zero one while there is no stream.
func (s *stream) look(ctx context.Context) (jetstream.StreamState, error) {
	st, err := s.js.Stream(ctx, streamName)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return jetstream.StreamState{}, nil
	case err != nil:
		return jetstream.StreamState{}, err
	}
	return st.CachedInfo().State, nil
}

// publish stores n messages of a size, each by itself, and returns how many it stored
// a second. In a window of 1 each is awaited before the next one is sent.
func (s *stream) publish(ctx context.Context, n, size, window int) (float64, error) {
	js, err := jetstream.New(s.nc, jetstream.WithPublishAsyncMaxPending(window))
	if err != nil {
		return 0, err
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: streamName, Subjects: []string{"events.>"}, Storage: jetstream.FileStorage}); err != nil {
		return 0, err
	}
	body := make([]byte, size)
	begin := time.Now()
	for range n {
		if window > 1 {
			_, err = js.PublishAsync("events.bench.created", body, jetstream.WithStallWait(patience))
		} else {
			_, err = js.Publish(ctx, "events.bench.created", body)
		}
		if err != nil {
			return 0, err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	took := time.Since(begin)
	if st, err := s.look(ctx); err != nil || st.Msgs != uint64(n) {
		return 0, errors.Join(err, fmt.Errorf("%d of %d messages were stored", st.Msgs, n))
	}
	return float64(n) / took.Seconds(), js.DeleteStream(ctx, streamName)
}
