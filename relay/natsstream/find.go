package natsstream

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/relay"
)

const (
	findNewest     = 1_000_000 // events that Find looks at by default
	firstStretch   = 512       // sequences read at first: what somebody asks about has often just happened
	longestStretch = 32 << 10
)

// FindConfig configures Find.
type FindConfig struct {
	Newest   int                                // how many events to look at; default 1,000,000
	Progress func(looked int, oldest time.Time) // when set, called now and then; oldest is when the last of them was stored
}

// NotFoundError says where Find has looked in vain.
type NotFoundError struct {
	ID, Stream string
	Looked     int       // events
	Oldest     time.Time // when the oldest of them was stored; zero when there was none
	All        bool      // the stream holds no others
}

// Error names the event, and how far back it was looked for.
func (e *NotFoundError) Error() string {
	what := fmt.Sprintf("event %s is not among the newest %d of stream %s", e.ID, e.Looked, e.Stream)
	if e.All {
		what = fmt.Sprintf("event %s is none of the %d in stream %s", e.ID, e.Looked, e.Stream)
	}
	if !e.Oldest.IsZero() {
		what += ", the oldest of them from " + e.Oldest.UTC().Format(time.RFC3339)
	}
	return what
}

// Find looks an event up by its id, newest first, and returns it with its sequence;
// the event's Data is in its Body only. The stream has no index of ids, so the
// headers of one event after the other are read, up to the limit. The error is a
// *NotFoundError when it is not there.
func (c *Client) Find(ctx context.Context, id string, cfg FindConfig) (relay.Event, uint64, error) {
	orDefault(&cfg.Newest, findNewest)
	session, cancel := c.session(ctx)
	info, err := c.info(session)
	cancel()
	if err != nil {
		return relay.Event{}, 0, c.explain(err)
	}
	s := search{c: c, id: id, miss: NotFoundError{ID: id, Stream: c.cfg.Stream}}
	first, last := info.State.FirstSeq, info.State.LastSeq
	for size := uint64(firstStretch); last >= first && last > 0; size = min(4*size, longestStretch) {
		from := first
		if last-first >= size {
			from = last - size + 1
		}
		seq, err := s.stretch(ctx, from, last)
		switch {
		case err != nil:
			return relay.Event{}, 0, fmt.Errorf("look for event %s in stream %s: %w", id, c.cfg.Stream, c.explain(err))
		case seq > 0:
			ev, err := c.event(ctx, seq)
			return ev, seq, err
		}
		if last = from - 1; s.miss.Looked >= cfg.Newest && last >= first {
			return relay.Event{}, 0, &s.miss
		}
		if cfg.Progress != nil {
			cfg.Progress(s.miss.Looked, s.miss.Oldest)
		}
	}
	s.miss.All = true
	return relay.Event{}, 0, &s.miss
}

// search is one Find.
type search struct {
	c    *Client
	id   string
	miss NotFoundError // what to say when it comes to nothing
}

// stretch looks at the headers of the events from one sequence to another, and
// returns the sequence of the one that is looked for, 0 when it is not there.
func (s *search) stretch(ctx context.Context, from, to uint64) (uint64, error) {
	consumer, pending, err := s.open(ctx, from)
	if err != nil {
		return 0, err
	}
	pull, err := s.c.newPuller(consumer)
	if err != nil {
		return 0, err
	}
	defer func() {
		pull.close()
		s.c.dismiss(context.WithoutCancel(ctx), consumer)
	}()
	var oldest time.Time
	for at := from; pending > 0 && at <= to; {
		msgs, err := s.next(ctx, pull, min(pending, to-at+1))
		if err != nil {
			return 0, err
		}
		for _, msg := range msgs {
			meta, err := msg.Metadata()
			if err != nil {
				return 0, fmt.Errorf("message on %q is not from the consumer: %w", msg.Subject, err)
			}
			at, pending = meta.Sequence.Stream+1, meta.NumPending
			if at > to+1 {
				break
			}
			if oldest.IsZero() {
				oldest = meta.Timestamp
			}
			if s.is(msg) {
				return meta.Sequence.Stream, nil
			}
			s.miss.Looked++
		}
	}
	if !oldest.IsZero() {
		s.miss.Oldest = oldest
	}
	return 0, nil
}

// is reports whether the message is the event that is looked for.
func (s *search) is(msg *nats.Msg) bool {
	id, err := unescape(msg.Header.Get("ce-id"))
	return err == nil && id == s.id
}

// open makes a consumer over the headers of the events from a sequence on, which the
// server forgets by itself. It returns how many events there are.
func (s *search) open(ctx context.Context, from uint64) (name string, pending uint64, err error) {
	ctx, cancel := s.c.session(ctx)
	defer cancel()
	consumer, err := s.c.js.CreateConsumer(ctx, s.c.cfg.Stream, jetstream.ConsumerConfig{
		Description:       "a search for one event of the relay",
		FilterSubject:     eventSubjects,
		AckPolicy:         jetstream.AckNonePolicy,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       from,
		HeadersOnly:       true,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: 2 * apiTimeout,
	})
	if err != nil {
		return "", 0, fmt.Errorf("read headers: %w", err)
	}
	info := consumer.CachedInfo()
	return info.Name, info.NumPending, nil
}

// next returns messages that are there; it fails when none comes for a while.
func (s *search) next(ctx context.Context, pull *puller, limit uint64) ([]*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	return pull.next(ctx, int(min(limit, maxBatch)))
}

// event reads one event whole.
func (c *Client) event(ctx context.Context, seq uint64) (relay.Event, error) {
	ctx, cancel := c.session(ctx)
	defer cancel()
	stream, err := c.js.Stream(ctx, c.cfg.Stream)
	if err != nil {
		return relay.Event{}, fmt.Errorf("look up stream %s: %w", c.cfg.Stream, c.explain(err))
	}
	msg, err := stream.GetMsg(ctx, seq)
	if err != nil {
		return relay.Event{}, fmt.Errorf("read message %d of stream %s: %w", seq, c.cfg.Stream, c.explain(err))
	}
	ev := relay.Event{Type: strings.TrimPrefix(msg.Subject, eventPrefix), Body: msg.Data}
	if _, err := parseHeader(msg.Header, &ev); err != nil {
		return relay.Event{}, fmt.Errorf("message %d of stream %s is no event: %w", seq, c.cfg.Stream, err)
	}
	return ev, nil
}
