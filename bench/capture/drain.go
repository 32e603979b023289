package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/bench/rig"
	"github.com/dot-do/relay/relay"
)

const (
	look      = 20 * time.Millisecond // between two looks at a drain
	drainTime = 10 * time.Minute      // without any progress a drain has failed
)

// drained is what one reading of a workload took.
type drained struct {
	took    time.Duration // from the server's consent to stream until the last event was stored
	cpu     time.Duration // of the reader, since then
	sender  time.Duration // of the server process that sent
	nats    time.Duration // of the NATS server, where it is another process
	peak    float64       // MiB that the reader held at most
	message int           // mean size in the stream
	silence time.Duration // longest without feedback
	foreign float64       // cores that other work used
}

// receive drains a copy of the workload's slot with pg_recvlogical.
func (s *stage) receive(ctx context.Context, w *workload) (d drained, err error) {
	slot, err := s.copySlot(ctx, w.slot)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, s.dropSlot(context.WithoutCancel(ctx), slot)) }()
	m, err := rig.NewMeter()
	if err != nil {
		return d, err
	}
	c, err := rig.Start(ctx, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir}, filepath.Join(s.server.BinDir(), "pg_recvlogical"),
		"--start", "--no-loop", "--verbose", "--slot", slot, "--file", "/dev/null", "--dbname", s.server.URL(database),
		"--endpos", w.to.String(), "-o", "proto_version=1", "-o", "publication_names="+publication)
	if err != nil {
		return d, err
	}
	defer c.Kill()
	begin, err := c.Await(ctx, "streaming initiated")
	if err != nil {
		return d, err
	}
	sender, err := s.sender(ctx, slot)
	if err != nil {
		return d, err
	}
	for !c.Ended() {
		if used, err := rig.CPUOf(sender); err == nil { // it ends with its client
			d.sender = used
		}
		select {
		case <-c.Done:
		case <-time.After(look):
		case <-ctx.Done():
			return d, ctx.Err()
		}
	}
	if c.Exit != nil {
		return d, errors.Join(c.Exit, c.Failure("failed"))
	}
	d.took, d.cpu = c.End.Sub(begin.At), c.CPU()
	d.foreign, err = m.Others(d.cpu + d.sender)
	if confirmed, lookErr := s.confirmed(ctx, slot); lookErr != nil || confirmed < w.to {
		err = errors.Join(err, lookErr, fmt.Errorf("pg_recvlogical ended at %s, not at %s", confirmed, w.to))
	}
	return d, err
}

// relayProcess is a running relay that captures.
type relayProcess struct {
	*rig.Child
	slot   string
	begin  time.Time     // streaming began
	cpu    time.Duration // used until then
	sender int
	nats   *rig.NATS // nil: within the relay
	ports  struct{ Listen, NATS string }
	stream *stream
	stage  *stage
}

// capture starts a relay on a slot, with a NATS server of its own or within it, and
// returns when it streams.
func (s *stage) capture(ctx context.Context, slot string, n *rig.NATS) (r *relayProcess, err error) {
	dir, err := os.MkdirTemp(s.dir, "relay-")
	if err != nil {
		return nil, err
	}
	portFile := filepath.Join(dir, "ports.json")
	env := s.environ(slot, "RELAY_PORT_FILE="+portFile, "RELAY_LOG_FORMAT=json", "RELAY_NATS_DIR="+filepath.Join(dir, "nats"), "RELAY_NATS_LISTEN=127.0.0.1:0")
	if n != nil {
		env = append(env, "RELAY_NATS_URL="+n.URL)
		if n.Durable {
			env = append(env, "RELAY_CONFIRM_LAG=0s") // as one would tell a relay that an acknowledgement is on disk
		}
	}
	r = &relayProcess{slot: slot, nats: n, stage: s}
	if r.Child, err = rig.Start(ctx, env, s.relay, "run", "--role=capture"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.Kill()
		}
	}()
	said, err := r.Await(ctx, `"msg":"streaming"`)
	if err != nil {
		return nil, err
	}
	if r.cpu, err = rig.CPUOf(r.PID()); err != nil {
		return nil, err
	}
	var logged struct{ Time time.Time }
	if err := json.Unmarshal([]byte(said.Text), &logged); err != nil {
		return nil, err
	}
	r.begin = logged.Time
	if r.sender, err = s.sender(ctx, slot); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(portFile)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &r.ports); err != nil {
		return nil, err
	}
	url := "nats://" + r.ports.NATS
	if n != nil {
		url = n.URL
	}
	r.stream, err = connect(url)
	return r, err
}

// leave stops the relay in order, and drops its slot.
func (r *relayProcess) leave(ctx context.Context) error {
	r.stream.nc.Close()
	return errors.Join(r.Stop(), r.stage.dropSlot(ctx, r.slot))
}

// venue says where NATS runs.
type venue struct {
	embedded, durable bool
}

// drain reads a copy of the workload's slot with the relay. It returns an error when
// not every event arrived.
func (s *stage) drain(ctx context.Context, w *workload, at venue) (d drained, err error) {
	slot, err := s.copySlot(ctx, w.slot)
	if err != nil {
		return d, err
	}
	var n *rig.NATS
	if !at.embedded {
		if n, err = rig.StartNATS(ctx, s.dir, at.durable); err != nil {
			return d, err
		}
		defer n.Close()
	}
	m, err := rig.NewMeter()
	if err != nil {
		return d, err
	}
	r, err := s.capture(ctx, slot, n)
	if err != nil {
		return d, errors.Join(err, s.dropSlot(context.WithoutCancel(ctx), slot))
	}
	defer r.Kill()
	state, err := r.finish(ctx, w, &d)
	if err == nil {
		err = r.read(&d, state)
	}
	if err == nil {
		d.foreign, err = m.Others(d.cpu + r.cpu + d.sender + d.nats)
	}
	if err == nil {
		err = r.verify(ctx, w, state)
	}
	if err == nil {
		err = r.acknowledged(ctx, w)
	}
	return d, errors.Join(err, r.leave(context.WithoutCancel(ctx)), s.tidy())
}

// finish waits until as many events are stored as there are changes.
func (r *relayProcess) finish(ctx context.Context, w *workload, d *drained) (state jetstream.StreamState, err error) {
	progress := time.Now()
	for {
		next, err := r.stream.look(ctx)
		if err != nil {
			return state, err
		}
		if next.Msgs > state.Msgs {
			progress = time.Now()
		}
		if state = next; state.Msgs >= uint64(w.changes) {
			return state, nil
		}
		if r.Ended() {
			return state, r.Failure("ended")
		}
		if time.Since(progress) > drainTime {
			return state, r.Failure(fmt.Sprintf("stored %d of %d events and goes no further", state.Msgs, w.changes))
		}
		silent, err := r.stage.silence(ctx, r.sender)
		if err != nil {
			return state, err
		}
		d.silence = max(d.silence, silent)
		if err := rig.Wait(ctx, look); err != nil {
			return state, err
		}
	}
}

// read takes the figures of a drain that has just ended.
func (r *relayProcess) read(d *drained, state jetstream.StreamState) (err error) {
	d.took = state.LastTime.Sub(r.begin)
	d.message = int(state.Bytes / state.Msgs)
	cpu, err := rig.CPUOf(r.PID())
	if err != nil {
		return err
	}
	d.cpu = cpu - r.cpu
	if d.sender, err = rig.CPUOf(r.sender); err != nil {
		return err
	}
	if r.nats != nil {
		if d.nats, err = rig.CPUOf(r.nats.PID()); err != nil {
			return err
		}
	}
	d.peak, err = rig.PeakOf(r.PID())
	return err
}

// verify looks at the number of events and at the last one: its place in the log and
// the row. Every drain of a workload must end at the same place.
func (r *relayProcess) verify(ctx context.Context, w *workload, state jetstream.StreamState) error {
	if state.Msgs != uint64(w.changes) || state.LastSeq != uint64(w.changes) {
		return fmt.Errorf("%d events up to sequence %d arrived of %d changes", state.Msgs, state.LastSeq, w.changes)
	}
	st, err := r.stream.js.Stream(ctx, streamName)
	if err != nil {
		return err
	}
	msg, err := st.GetMsg(ctx, state.LastSeq)
	if err != nil {
		return err
	}
	at, err := relay.ParsePosition(msg.Header.Get("Relay-Pos"))
	if err != nil {
		return err
	}
	if w.last.IsZero() {
		w.last = at
	}
	key := msg.Header.Get("ce-subject")
	if at != w.last || at.Ordinal != w.ordinal || at.CommitLSN <= w.from || at.CommitLSN > w.to || key != w.key {
		return fmt.Errorf("the last event is %s of row %s; want change %d of the commit between %s and %s, row %s", at, key, w.ordinal, w.from, w.to, w.key)
	}
	return nil
}

// acknowledged waits until the relay says of the last event, too, that the stream holds
// it: then every acknowledgement had come.
func (r *relayProcess) acknowledged(ctx context.Context, w *workload) error {
	ctx, cancel := context.WithTimeout(ctx, rig.Patience)
	defer cancel()
	for {
		var at struct {
			Published string
			Sequence  uint64 `json:"stream_seq"`
		}
		if err := r.ask(ctx, "/v1/position", &at); err != nil {
			return err
		}
		published, err := relay.ParseLSN(at.Published)
		if err != nil {
			return err
		}
		if published >= w.last.CommitLSN && at.Sequence == uint64(w.changes) {
			return nil
		}
		if err := rig.Wait(ctx, look); err != nil {
			return fmt.Errorf("the relay knows of %d events up to %s only: %w", at.Sequence, published, err)
		}
	}
}

// ask gets JSON from the relay.
func (r *relayProcess) ask(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.ports.Listen+path, nil)
	if err != nil {
		return err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	return json.NewDecoder(res.Body).Decode(into)
}

// tidy removes the streams of relays that have ended.
func (s *stage) tidy() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "relay-") {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, e.Name())))
		}
	}
	return err
}
