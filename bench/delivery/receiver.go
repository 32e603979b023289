package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dot-do/relay/bench/rig"
)

// receiverEnv makes this program, started again, the receiver.
const (
	receiverEnv  = "RELAY_BENCH_RECEIVER"
	receiverSays = "receiving at "
)

// arrival is a request that was answered with 2xx.
type arrival struct {
	Endpoint string
	ID       string // its webhook-id
	At       int64  // when the answer was given, in ns since 1970
}

// endpoints are the receiver's side of all subscriptions. What a path begins with says
// how it answers: /hang does not, /fail with 500, everything else with 200.
type endpoints struct {
	mu       sync.Mutex
	arrivals []arrival
	failed   int
	hanging  int
}

// serveReceiver is a receiver until it is killed, in a process that was started as one.
func serveReceiver() (served bool, err error) {
	if os.Getenv(receiverEnv) == "" {
		return false, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return true, err
	}
	e := &endpoints{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /take", e.take)
	mux.HandleFunc("POST /hang/", e.hang)
	mux.HandleFunc("POST /fail/", e.fail)
	mux.HandleFunc("POST /", e.receive)
	_, _ = fmt.Fprintln(os.Stderr, receiverSays+"http://"+l.Addr().String())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: rig.Patience}
	return true, server.Serve(l)
}

func (e *endpoints) receive(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // the sender is gone
	}
	w.WriteHeader(http.StatusOK)
	a := arrival{Endpoint: r.URL.Path, ID: r.Header.Get("Webhook-Id"), At: time.Now().UnixNano()}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.arrivals = append(e.arrivals, a)
}

func (e *endpoints) fail(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // a sender that is gone needs no answer
	w.WriteHeader(http.StatusInternalServerError)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failed++
}

// hang answers when the sender has given up.
func (e *endpoints) hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // as above; the server watches for a hang-up from here on
	e.mu.Lock()
	e.hanging++
	e.mu.Unlock()
	<-r.Context().Done()
}

// taken is what the receiver has seen since it was asked last.
type taken struct {
	Arrivals        []arrival
	Failed, Hanging int
}

// take hands out what was seen, and forgets it.
func (e *endpoints) take(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	t := taken{e.arrivals, e.failed, e.hanging}
	e.arrivals, e.failed, e.hanging = nil, 0, 0
	e.mu.Unlock()
	out := bufio.NewWriter(w)
	_ = json.NewEncoder(out).Encode(t) // the asker notices
	_ = out.Flush()
}

// receiver is a running one.
type receiver struct {
	*rig.Child
	url string
}

func startReceiver(ctx context.Context) (*receiver, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &receiver{}
	if r.Child, err = rig.Start(ctx, append(os.Environ(), receiverEnv+"=yes"), self); err != nil {
		return nil, err
	}
	said, err := r.Await(ctx, receiverSays)
	if err != nil {
		r.Kill()
		return nil, err
	}
	r.url = strings.TrimPrefix(said.Text, receiverSays)
	return r, nil
}

// take asks for what arrived since it was asked last.
func (r *receiver) take(ctx context.Context) (t taken, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/take", nil)
	if err != nil {
		return t, err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return t, err
	}
	defer func() { _ = res.Body.Close() }()
	if err := json.NewDecoder(res.Body).Decode(&t); err != nil {
		return t, fmt.Errorf("ask the receiver: %w", err)
	}
	seen := make(map[string]bool, len(t.Arrivals))
	for _, a := range t.Arrivals {
		if seen[a.ID] {
			return t, fmt.Errorf("%s arrived twice at %s", a.ID, a.Endpoint)
		}
		seen[a.ID] = true
	}
	return t, nil
}
