package natsstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/relay"
)

const (
	consumerPatience = 30 * time.Second // a consumer that cannot be had for this long is reported
	consumerRetry    = 250 * time.Millisecond

	// metaMadeAt, in a consumer's metadata, is the end of the stream when it was
	// made. Another consumer may have handed out what stands before.
	metaMadeAt = "relay-made-at"
)

// ensure looks the shared consumer up, and makes it when it is missing or when
// the stream has lost its end: a consumer ahead of its stream would skip what is
// written next.
func (f *Feed) ensure(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := f.c.session(ctx)
	defer cancel()
	consumer, err := f.c.js.Consumer(ctx, f.c.cfg.Stream, f.cfg.Durable)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, fmt.Errorf("look up consumer %s of stream %s: %w", f.cfg.Durable, f.c.cfg.Stream, err)
	}
	stream, serr := f.c.info(ctx)
	if serr != nil {
		return nil, serr
	}
	if err := f.know(stream); err != nil {
		return nil, err
	}
	last := stream.State.LastSeq
	// A server that was killed has forgotten what it handed out, and the acks, of its
	// last moments: to it, events up to here may look as if they were new.
	f.joined.Store(last)
	if err == nil {
		info := consumer.CachedInfo()
		if what := unusable(&info.Config); what != "" {
			return nil, setupErrorf("remove it and the relay makes it anew: nats consumer rm "+f.c.cfg.Stream+" "+f.cfg.Durable,
				"consumer %s of stream %s %s", f.cfg.Durable, f.c.cfg.Stream, what)
		}
		f.raise(info.AckFloor.Stream)
		f.doubt(info)
		if info.Delivered.Stream <= last {
			return info, nil
		}
		f.log.WarnContext(ctx, "consumer is ahead of its stream, which lost its end", "delivered", info.Delivered.Stream, "stream_seq", last)
		if err := f.c.js.DeleteConsumer(ctx, f.c.cfg.Stream, f.cfg.Durable); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil, fmt.Errorf("remove consumer %s: %w", f.cfg.Durable, err)
		}
	}
	return f.create(ctx, last)
}

// create makes the consumer behind what is known to be acked.
func (f *Feed) create(ctx context.Context, last uint64) (*jetstream.ConsumerInfo, error) {
	cfg := jetstream.ConsumerConfig{
		Durable:       f.cfg.Durable,
		Description:   "shared by all delivery processes of the relay",
		FilterSubject: eventSubjects,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       f.cfg.AckWait,
		MaxAckPending: f.cfg.MaxAckPending,
		MaxDeliver:    -1, // the delivery engine decides when an event is done with
		DeliverPolicy: jetstream.DeliverAllPolicy,
		Metadata:      map[string]string{metaMadeAt: strconv.FormatUint(last, 10)},
	}
	if after := min(f.floor.Load(), last); after > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, after+1
	}
	consumer, err := f.c.js.CreateConsumer(ctx, f.c.cfg.Stream, cfg)
	if errors.Is(err, jetstream.ErrConsumerExists) { // another process was faster
		consumer, err = f.c.js.Consumer(ctx, f.c.cfg.Stream, f.cfg.Durable)
	}
	if err != nil {
		return nil, fmt.Errorf("create consumer %s of stream %s: %w", f.cfg.Durable, f.c.cfg.Stream, err)
	}
	f.log.InfoContext(ctx, "consumer created", "stream", f.c.cfg.Stream, "after_seq", cfg.OptStartSeq)
	f.doubt(consumer.CachedInfo())
	return consumer.CachedInfo(), nil
}

// doubt notes up to where an event may have been handed out by a consumer before
// this one. The metadata tells it to every process.
func (f *Feed) doubt(info *jetstream.ConsumerInfo) {
	madeAt, err := strconv.ParseUint(info.Config.Metadata[metaMadeAt], 10, 64)
	if err != nil {
		madeAt = 0 // made by somebody else, who knows where it begins
	}
	f.madeAt.Store(madeAt)
}

// unusable names what in the settings would lose events or hand out others.
func unusable(c *jetstream.ConsumerConfig) string {
	switch {
	case c.FilterSubject != eventSubjects && (len(c.FilterSubjects) != 1 || c.FilterSubjects[0] != eventSubjects):
		return "does not read " + eventSubjects
	case c.DeliverSubject != "":
		return "is push based"
	case c.AckPolicy != jetstream.AckExplicitPolicy:
		return "does not want an ack for each event"
	case c.MaxDeliver > 0:
		return "gives up on events (max_deliver)"
	}
	return ""
}

// know fails when this is another stream of the same name: whatever is remembered
// of sequences, here and by the feed's owner, is about other events.
func (f *Feed) know(stream *jetstream.StreamInfo) error {
	created := stream.Created.UnixNano()
	if !f.created.CompareAndSwap(0, created) && f.created.Load() != created {
		return fmt.Errorf("stream %s: %w", f.c.cfg.Stream, relay.ErrStreamReplaced)
	}
	return nil
}

// raise notes a sequence up to which all events are acked.
func (f *Feed) raise(acked uint64) {
	for {
		old := f.floor.Load()
		if acked <= old || f.floor.CompareAndSwap(old, acked) {
			return
		}
	}
}

// restore brings a consumer back that answers no more. It keeps trying for a
// while: a cluster may be between two leaders.
func (f *Feed) restore(ctx context.Context) error {
	f.log.WarnContext(ctx, "consumer does not answer", "stream", f.c.cfg.Stream)
	deadline := time.Now().Add(consumerPatience)
	for {
		_, err := f.ensure(ctx)
		var setup *relay.SetupError
		if err == nil || errors.As(err, &setup) || errors.Is(err, relay.ErrStreamReplaced) || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		if err := sleep(ctx, consumerRetry); err != nil {
			return err
		}
		if err := f.c.link.await(ctx); err != nil {
			return err
		}
	}
}
