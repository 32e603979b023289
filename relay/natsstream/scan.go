package natsstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/relay"
)

// scanBatch bounds the events in memory at once.
const scanBatch = 100

// ScanConfig says which events are meant.
type ScanConfig struct {
	Type         string    // the event type
	Since, Until time.Time // of when they were stored; zero for no bound
	Durable      string    // the consumer that delivers; default relay-deliver
}

// Scanned is where a Scan has ended.
type Scanned struct {
	Events int
	Oldest time.Time // when the oldest event of the stream, of any type, was stored; zero for none
	// Open is how many messages at the end of the stream were not looked at: whoever
	// delivers has not dealt with them yet.
	Open uint64
}

// Scan calls fn with the events of a type, oldest first, some at a time: those that
// were there when it began and that every delivery process has dealt with. Messages that
// are no usable events are passed over. fn may not keep the slice.
func (c *Client) Scan(ctx context.Context, cfg ScanConfig, fn func([]relay.StreamMessage) error) (Scanned, error) {
	if cfg.Durable == "" {
		cfg.Durable = defaultDurable
	}
	did, end, err := c.scanBounds(ctx, cfg.Durable)
	if err == nil && end > 0 {
		err = c.scan(ctx, cfg, end, &did, fn)
	}
	if err != nil {
		return did, fmt.Errorf("read the events of stream %s: %w", c.cfg.Stream, c.explain(err))
	}
	return did, nil
}

// scanBounds finds the last message to look at, 0 for none.
func (c *Client) scanBounds(ctx context.Context, durable string) (did Scanned, end uint64, err error) {
	ctx, cancel := c.session(ctx)
	defer cancel()
	info, err := c.info(ctx)
	if err != nil {
		return did, 0, err
	}
	if info.State.Msgs > 0 {
		did.Oldest = info.State.FirstTime
	}
	end = info.State.LastSeq
	consumer, err := c.js.Consumer(ctx, c.cfg.Stream, durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) { // nobody delivers
		return did, end, nil
	}
	if err != nil {
		return did, 0, fmt.Errorf("look up consumer %s: %w", durable, err)
	}
	at := consumer.CachedInfo()
	if at.NumPending > 0 || at.NumAckPending > 0 {
		did.Open = end - min(end, at.AckFloor.Stream)
		end = min(end, at.AckFloor.Stream)
	}
	return did, end, nil
}

func (c *Client) scan(ctx context.Context, cfg ScanConfig, end uint64, did *Scanned, fn func([]relay.StreamMessage) error) error {
	consumer, pending, err := c.openScan(ctx, cfg)
	if err != nil {
		return err
	}
	pull, err := c.newPuller(consumer)
	if err != nil {
		return err
	}
	defer func() {
		pull.close()
		c.dismiss(context.WithoutCancel(ctx), consumer)
	}()
	for pending > 0 {
		wait, cancel := context.WithTimeout(ctx, apiTimeout)
		msgs, err := pull.next(wait, int(min(pending, scanBatch)))
		cancel()
		if err != nil {
			return err
		}
		batch := make([]relay.StreamMessage, 0, len(msgs))
		for _, msg := range msgs {
			meta, err := msg.Metadata()
			if err != nil {
				return fmt.Errorf("message on %q is not from the consumer: %w", msg.Subject, err)
			}
			pending = meta.NumPending
			if meta.Sequence.Stream > end || !cfg.Until.IsZero() && !meta.Timestamp.Before(cfg.Until) {
				pending = 0
				break
			}
			if m, ok := decode(msg); ok && m.Err == nil && !m.Event.IsControl() {
				batch = append(batch, m)
			}
		}
		did.Events += len(batch)
		if err := fn(batch); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) openScan(ctx context.Context, cfg ScanConfig) (name string, pending uint64, err error) {
	ctx, cancel := c.session(ctx)
	defer cancel()
	want := jetstream.ConsumerConfig{
		Description:       "a replay of events of the relay",
		FilterSubject:     eventPrefix + cfg.Type,
		AckPolicy:         jetstream.AckNonePolicy,
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: 2 * apiTimeout,
	}
	if !cfg.Since.IsZero() {
		want.DeliverPolicy, want.OptStartTime = jetstream.DeliverByStartTimePolicy, &cfg.Since
	}
	consumer, err := c.js.CreateConsumer(ctx, c.cfg.Stream, want)
	if err != nil {
		return "", 0, fmt.Errorf("open a reader: %w", err)
	}
	info := consumer.CachedInfo()
	return info.Name, info.NumPending, nil
}
