package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
)

// natsEnv holds the path of a configuration file in the environment of a NATS server,
// which is this program started again.
const natsEnv = "RELAY_BENCH_NATS"

// ServeNATS is a NATS server until it is killed, in a process that was started as one.
func ServeNATS() (served bool, err error) {
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
	if !srv.ReadyForConnections(Patience) {
		return true, errors.New("the NATS server does not get ready")
	}
	_, _ = fmt.Fprintln(os.Stderr, natsSays+srv.ClientURL())
	srv.WaitForShutdown()
	return true, nil
}

const natsSays = "serving at "

// NATS is a server in a process of its own, with a new store.
type NATS struct {
	*Child
	URL     string
	Durable bool // it syncs every write before it answers
	dir     string
}

// StartNATS starts a server with its store below parent; durable makes it sync every write before it answers.
func StartNATS(ctx context.Context, parent string, durable bool) (*NATS, error) {
	dir, err := os.MkdirTemp(parent, "nats-")
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
	n := &NATS{dir: dir, Durable: durable}
	if n.Child, err = Start(ctx, append(os.Environ(), natsEnv+"="+config), self); err != nil {
		return nil, err
	}
	said, err := n.Await(ctx, natsSays)
	if err != nil {
		n.Close()
		return nil, err
	}
	n.URL = said.Text[len(natsSays):]
	return n, nil
}

// Close ends the server and removes its store.
func (n *NATS) Close() {
	n.Kill()
	_ = os.RemoveAll(n.dir) // parent goes as a whole
}
