package natsstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/relay"
)

// announcementBatch is small: announcements are rare and are applied one by one.
const announcementBatch = 64

// Announcements calls fn for every announcement after the sequence, in order,
// until ctx ends, fn fails or the stream is another one, and returns that error.
// It goes on through anything else: a lost connection, a restarted server, a stream that is missing for a
// while. An announcement that cannot be read is passed on as one that concerns
// every row.
func (f *Feed) Announcements(ctx context.Context, after uint64, fn func(seq uint64, a relay.Announcement) error) error {
	for {
		var failed error
		err := f.announce(ctx, &after, func(seq uint64, a relay.Announcement) error {
			failed = fn(seq, a)
			return failed
		})
		switch {
		case failed != nil:
			return failed
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errClosed), errors.Is(err, relay.ErrStreamReplaced):
			return err
		case !errors.Is(err, errReconnected):
			f.log.WarnContext(ctx, "announcements interrupted", "stream", f.c.cfg.Stream, "after_seq", after, "error", err)
			if err := sleep(ctx, consumerRetry); err != nil {
				return err
			}
		}
		if err := f.c.link.await(ctx); err != nil {
			return err
		}
	}
}

// announce reads announcements with a consumer of its own until something breaks.
// What the server sent over one connection arrives complete and in order, so a
// consumer is used for one connection only.
func (f *Feed) announce(ctx context.Context, after *uint64, fn func(uint64, relay.Announcement) error) error {
	consumer, err := f.listen(ctx, *after)
	if err != nil {
		return err
	}
	pull, err := f.c.newPuller(consumer)
	if err != nil {
		return err
	}
	defer func() {
		pull.close()
		f.c.dismiss(context.WithoutCancel(ctx), consumer)
	}()
	for {
		msgs, err := pull.next(ctx, announcementBatch)
		if err != nil {
			return err
		}
		for _, msg := range msgs {
			meta, err := msg.Metadata()
			if err != nil {
				return fmt.Errorf("message on %q is not from the consumer: %w", msg.Subject, err)
			}
			if err := fn(meta.Sequence.Stream, announcement(msg)); err != nil {
				return err
			}
			*after = meta.Sequence.Stream
		}
	}
}

func announcement(msg *nats.Msg) relay.Announcement {
	var a relay.Announcement
	if msg.Subject == relay.ControlBackfill || msg.Subject == relay.ControlParked {
		return relay.Announcement{ID: msg.Subject, Op: relay.OpRead.String()} // of no row that there is
	}
	if err := json.Unmarshal(msg.Data, &a); err != nil || msg.Subject != relay.ControlWebhooks {
		return relay.Announcement{Op: relay.OpTruncate.String()}
	}
	return a
}

// listen makes a consumer that the server forgets by itself.
func (f *Feed) listen(ctx context.Context, after uint64) (name string, err error) {
	ctx, cancel := f.c.session(ctx)
	defer cancel()
	stream, err := f.c.info(ctx)
	if err != nil {
		return "", err
	}
	if err := f.know(stream); err != nil {
		return "", err
	}
	consumer, err := f.c.js.CreateConsumer(ctx, f.c.cfg.Stream, jetstream.ConsumerConfig{
		Description:       "announcements for one delivery process of the relay",
		FilterSubject:     controlSubjects,
		AckPolicy:         jetstream.AckNonePolicy,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       after + 1,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: 2 * pullExpires,
	})
	if err != nil {
		return "", fmt.Errorf("listen to announcements of stream %s: %w", f.c.cfg.Stream, err)
	}
	return consumer.CachedInfo().Name, nil
}
