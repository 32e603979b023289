package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/internal/pgtest"
)

// cluster KEY=VALUE...: a Postgres server of the script's own with these settings,
// and a database on it in the place of the first one.
func (s *stage) cluster(args []string) {
	opts := pgtest.Options{Settings: map[string]string{}}
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		opts.Settings[key] = value
	}
	s.useDatabase(pgtest.NewCluster(s.t, opts).New(s.t), s.Setenv)
}

// dsn PART=VALUE...: RELAY_DATABASE_URL with another user, password, host, path or
// parameter.
func (s *stage) dsn(args []string) {
	u, err := url.Parse(s.Getenv("DB_URL"))
	s.Check(err)
	user := u.User.Username()
	password, _ := u.User.Password()
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "user":
			user = value
		case "password":
			password = value
			s.secrets = append(s.secrets, value)
		case "host":
			u.Host = value
		case "database":
			u.Path = "/" + value
		default:
			q := u.Query()
			q.Set(key, value)
			u.RawQuery = q.Encode()
		}
	}
	u.User = url.UserPassword(user, password)
	s.Setenv("RELAY_DATABASE_URL", u.String())
}

// sql STATEMENTS...|-f FILE: runs it as superuser by psql; rows are the stdout.
func (s *stage) sql(args []string) {
	all := []string{"-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", s.db.URL}
	if len(args) == 2 && args[0] == "-f" {
		all = append(all, args...)
	} else {
		for _, statement := range args {
			all = append(all, "-c", statement)
		}
	}
	if err := s.Exec(s.psql, all...); err != nil {
		s.Fatalf("psql: %v", err)
	}
}

// until QUERY ROWS: waits until the query answers this.
func (s *stage) until(args []string) {
	if len(args) != 2 {
		s.Fatalf("usage: until QUERY ROWS")
	}
	s.poll(func() (bool, string) {
		out, err := exec.Command(s.psql, "-X", "-q", "-A", "-t", "-d", s.db.URL, "-c", args[0]).CombinedOutput()
		if err != nil {
			s.Fatalf("psql: %v\n%s", err, out)
		}
		return strings.TrimSpace(string(out)) == args[1], string(out)
	})
}

// nats start [plain]|stop: a NATS server at RELAY_NATS_URL; a plain one has no
// JetStream. Stopped and started again it has the same address.
func (s *stage) nats(args []string) {
	switch strings.Join(args, " ") {
	case "start", "start plain":
		if s.server != nil {
			s.server.Start()
			return
		}
		s.server = natstest.New(s.t, func(o *server.Options) { o.JetStream = len(args) == 1 })
		s.Setenv("RELAY_NATS_URL", s.server.URL)
		s.Setenv("NATS_ADDR", strings.TrimPrefix(s.server.URL, "nats://"))
	case "stop":
		s.server.Stop()
	default:
		s.Fatalf("usage: nats start [plain] | nats stop")
	}
}

// stream FILE: makes a JetStream stream from its settings in JSON.
func (s *stage) stream(args []string) {
	var config jetstream.StreamConfig
	s.Check(json.Unmarshal([]byte(s.ReadFile(args[0])), &config))
	nc, err := nats.Connect(s.server.URL)
	s.Check(err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	s.Check(err)
	_, err = js.CreateStream(s.t.Context(), config)
	s.Check(err)
}

// receiver [hang]: an endpoint at $RECEIVER that answers 200 to everything, or
// nothing at all, and settings that let the relay reach it.
func (s *stage) receiver(args []string) {
	hang := len(args) == 1 && args[0] == "hang"
	s.requests = make(chan struct{}, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body) // only then does the server see the client leave
		s.requests <- struct{}{}
		if hang {
			<-req.Context().Done()
		}
	}))
	s.Defer(receiver.Close)
	s.Setenv("RECEIVER", receiver.URL)
	s.Setenv("RECEIVER_ADDR", strings.TrimPrefix(receiver.URL, "http://"))
	s.Setenv("RELAY_EGRESS_ALLOW", "127.0.0.1/32")
	s.Setenv("RELAY_EGRESS_HTTP", "true")
}

// request: waits for a request at the receiver.
func (s *stage) request([]string) {
	select {
	case <-s.requests:
	case <-time.After(patience):
		s.Fatalf("no request came")
	}
}
