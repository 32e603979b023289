// Package natstest gives tests a real NATS server with JetStream.
//
// New runs the server inside the test process: fast, and able to restart on the
// same port and store. NewProcess runs the same server as a process of its own, for
// tests that kill -9 it or freeze it. The process is the test binary itself, started
// again, so a package that uses NewProcess gives it a way in:
//
//	func TestMain(m *testing.M) {
//		natstest.Main() // serves NATS, and never returns, in a process made by NewProcess
//		os.Exit(m.Run())
//	}
package natstest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

const readyTimeout = 30 * time.Second

// Server is a NATS server inside the test process.
type Server struct {
	URL string // stable over restarts

	t    testing.TB
	opts server.Options
	srv  *server.Server
}

// New starts a server on 127.0.0.1 with its store in t.TempDir. Each configure
// function may change the server's options first. The server ends with the test.
func New(t testing.TB, configure ...func(*server.Options)) *Server {
	t.Helper()
	port := freePort(t)
	s := &Server{t: t, URL: url(port), opts: server.Options{
		Host: "127.0.0.1", Port: port,
		JetStream: true, StoreDir: t.TempDir(),
		NoLog: true, NoSigs: true,
	}}
	for _, f := range configure {
		f(&s.opts)
	}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Start starts the stopped server again, on its port and store.
func (s *Server) Start() {
	s.t.Helper()
	opts := s.opts // the server keeps and changes what it is given
	srv, err := server.NewServer(&opts)
	require.NoError(s.t, err)
	srv.Start()
	require.True(s.t, srv.ReadyForConnections(readyTimeout), "the NATS server does not get ready")
	s.srv = srv
}

// Stop ends the server and waits until it is gone. Stopping twice is harmless.
func (s *Server) Stop() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

// Restart is Stop and Start.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

// Connect returns a connection that is closed when the test ends.
func (s *Server) Connect(opts ...nats.Option) *nats.Conn {
	s.t.Helper()
	return connect(s.t, s.URL, opts)
}

// JetStream returns a JetStream context on a connection of its own.
func (s *Server) JetStream() jetstream.JetStream {
	s.t.Helper()
	js, err := jetstream.New(s.Connect())
	require.NoError(s.t, err)
	return js
}

func connect(t testing.TB, url string, opts []nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, opts...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

func url(port int) string { return "nats://127.0.0.1:" + strconv.Itoa(port) }

// freePort looks below the kernel's usual client range, so that the port stays
// free while a server is restarted.
func freePort(t testing.TB) int {
	t.Helper()
	const lowest, span, tries = 15000, 15000, 100
	for range tries {
		port := lowest + rand.IntN(span)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			require.NoError(t, l.Close())
			return port
		}
	}
	require.FailNow(t, "no free port on 127.0.0.1")
	return 0
}
