package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// message is one message of the stream.
type message struct {
	Seq     uint64
	Subject string
	Header  nats.Header
	Body    []byte
	Event   body // empty for an announcement
	pos     position
	parked  bool // and published later: it tells of its own transaction
}

// announcement reports whether the message is one of the relay's own.
func (m message) announcement() bool { return strings.HasPrefix(m.Subject, "relay.control.") }

// stream reads the whole stream back, checks every message against the contract,
// and returns the events: without announcements and without what settle wrote.
func (s *stack) stream(p *process) []message {
	s.t.Helper()
	all := s.readStream(p)
	s.checkChain(all)
	events := all[:0]
	parked := map[string]bool{}
	for _, m := range all {
		if m.announcement() {
			var record struct {
				EventID string `json:"event_id"`
			}
			if m.Subject == "relay.control.parked" {
				require.NoError(s.t, json.Unmarshal(m.Body, &record))
				parked[record.EventID] = true
			}
			continue
		}
		m.parked = parked[m.Header.Get("ce-id")]
		require.NoError(s.t, m.check(), "message %d", m.Seq)
		if m.Event.Source.Key["ns"] != markerNS {
			events = append(events, m)
		}
	}
	return events
}

// readStream reads every message from the first to the last.
func (s *stack) readStream(p *process) []message {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	stream := must(s.js(p).Stream(ctx, "EVENTS"))(s.t)
	last := must(stream.Info(ctx))(s.t).State.LastSeq
	if last == 0 {
		return nil
	}
	consumer := must(stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy}))(s.t)
	var out []message
	for {
		batch, err := consumer.Fetch(500, jetstream.FetchMaxWait(time.Second))
		require.NoError(s.t, err)
		for msg := range batch.Messages() {
			meta := must(msg.Metadata())(s.t)
			out = append(out, message{Seq: meta.Sequence.Stream, Subject: msg.Subject(), Header: msg.Headers(), Body: msg.Data()})
			if meta.Sequence.Stream >= last {
				return out
			}
		}
		if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) {
			require.NoError(s.t, err)
		}
		require.NoError(s.t, ctx.Err(), "the stream cannot be read to its end")
	}
}

// streamLength is the sequence of the last message, 0 while there is no stream.
func (s *stack) streamLength(p *process) uint64 {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	stream, err := s.js(p).Stream(ctx, "EVENTS")
	if err != nil {
		return 0
	}
	return stream.CachedInfo().State.LastSeq
}

// checkChain demands sequences without a gap, positions in strict order, every
// message naming the one before it, and no id twice.
func (s *stack) checkChain(all []message) {
	s.t.Helper()
	ids := map[string]uint64{}
	for i := range all {
		m := &all[i]
		var err error
		m.pos, err = parsePosition(m.Header.Get("Relay-Pos"))
		require.NoError(s.t, err, "message %d", m.Seq)
		id := m.Header.Get("ce-id")
		require.Zero(s.t, ids[id], "messages %d and %d have the id %s", ids[id], m.Seq, id)
		ids[id] = m.Seq
		previous := m.Header.Get("Relay-Prev")
		if i == 0 {
			require.EqualValues(s.t, 1, m.Seq)
			require.Empty(s.t, previous)
			continue
		}
		require.Equal(s.t, all[i-1].Seq+1, m.Seq, "the stream has a gap")
		require.Equal(s.t, all[i-1].Header.Get("Relay-Pos"), previous, "the chain is broken at message %d", m.Seq)
		require.True(s.t, m.pos.after(all[i-1].pos), "message %d at %+v comes after %+v", m.Seq, m.pos, all[i-1].pos)
	}
}

// check compares headers and body of an event with each other and the contract.
func (m *message) check() (err error) {
	if m.Event, err = parseBody(m.Body); err != nil {
		return fmt.Errorf("body: %w: %s", err, m.Body)
	}
	e := &m.Event
	for _, c := range []struct{ name, got, want string }{
		{"subject", m.Subject, "events." + e.Type},
		{"source.lsn", e.Source.LSN, m.pos.commit.String()},
		{"ce-id", m.Header.Get("ce-id"), e.ID},
		{"ce-type", m.Header.Get("ce-type"), e.Type},
		{"ce-specversion", m.Header.Get("ce-specversion"), "1.0"},
		{"content-type", m.Header.Get("content-type"), "application/json"},
		{"ce-time", m.Header.Get("ce-time"), e.Timestamp},
		{"ce-subject", unescaped(m.Header.Get("ce-subject")), e.key()},
	} {
		if c.got != c.want && (!m.parked || c.name != "source.lsn") {
			return fmt.Errorf("%s is %q, want %q", c.name, c.got, c.want)
		}
	}
	if !strings.HasSuffix(m.Header.Get("ce-source"), "/"+e.Source.Table) {
		return fmt.Errorf("ce-source %q does not name the table", m.Header.Get("ce-source"))
	}
	owner, err := url.ParseQuery(m.Header.Get("Relay-Owner"))
	if err != nil || !slices.Contains([]string{"everyone", "owner"}, owner.Get("audience")) {
		return fmt.Errorf("Relay-Owner is %q", m.Header.Get("Relay-Owner"))
	}
	return nil
}

func unescaped(s string) string {
	if out, err := url.PathUnescape(s); err == nil {
		return out
	}
	return s
}

// names lists events as type and key, in stream order.
func names(events []message) []string {
	out := []string{}
	for _, m := range events {
		out = append(out, m.Event.name())
	}
	return out
}
