package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/bench/rig"
)

// stream is the relay's stream, looked at over a connection of the benchmark.
type stream struct {
	nc *nats.Conn
	js jetstream.JetStream
}

func connect(url string) (*stream, error) {
	nc, err := nats.Connect(url, nats.Name("bench"))
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	return &stream{nc, js}, err
}

// streamName is the relay's default.
const streamName = "EVENTS"

// look returns the stream's state; the zero one while there is no stream.
func (s *stream) look(ctx context.Context) (jetstream.StreamState, error) {
	st, err := s.js.Stream(ctx, streamName)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return jetstream.StreamState{}, nil
	case err != nil:
		return jetstream.StreamState{}, err
	}
	return st.CachedInfo().State, nil
}

// publish stores n messages of a size, each by itself, and returns how many it stored
// a second. In a window of 1 each is awaited before the next one is sent.
func (s *stream) publish(ctx context.Context, n, size, window int) (float64, error) {
	js, err := jetstream.New(s.nc, jetstream.WithPublishAsyncMaxPending(window))
	if err != nil {
		return 0, err
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: streamName, Subjects: []string{"events.>"}, Storage: jetstream.FileStorage}); err != nil {
		return 0, err
	}
	body := make([]byte, size)
	begin := time.Now()
	for range n {
		if window > 1 {
			_, err = js.PublishAsync("events.bench.created", body, jetstream.WithStallWait(rig.Patience))
		} else {
			_, err = js.Publish(ctx, "events.bench.created", body)
		}
		if err != nil {
			return 0, err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	took := time.Since(begin)
	if st, err := s.look(ctx); err != nil || st.Msgs != uint64(n) {
		return 0, errors.Join(err, fmt.Errorf("%d of %d messages were stored", st.Msgs, n))
	}
	return float64(n) / took.Seconds(), js.DeleteStream(ctx, streamName)
}
