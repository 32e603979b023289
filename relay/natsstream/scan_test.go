package natsstream_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
)

// scan returns the sequences of what is read.
func scan(t *testing.T, c *natsstream.Client, cfg natsstream.ScanConfig) ([]uint64, natsstream.Scanned) {
	t.Helper()
	if cfg.Type == "" {
		cfg.Type = "thing.updated"
	}
	var seqs []uint64
	did, err := c.Scan(t.Context(), cfg, func(batch []relay.StreamMessage) error {
		for _, m := range batch {
			require.NoError(t, m.Err)
			seqs = append(seqs, m.Seq)
		}
		return nil
	})
	require.NoError(t, err)
	require.Len(t, seqs, did.Events)
	return seqs, did
}

func TestScanReadsTheEventsOfATypeInOrder(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	seqs, did := scan(t, c, natsstream.ScanConfig{})
	require.Empty(t, seqs)
	require.Zero(t, did)

	w := ready(t, c)
	list := events(2, 600)
	other := event(601)
	other.Type = "thing.created"
	require.NoError(t, w.Append(t.Context(), []relay.Event{announcement(1, "a")}))
	require.NoError(t, w.Append(t.Context(), append(list, other)))
	seqs, did = scan(t, c, natsstream.ScanConfig{})
	require.Len(t, seqs, 599)
	require.IsIncreasing(t, seqs)
	require.WithinDuration(t, time.Now(), did.Oldest, time.Minute)
	require.Zero(t, did.Open)
	_, err := c.Scan(t.Context(), natsstream.ScanConfig{Type: "thing.created"}, func(batch []relay.StreamMessage) error {
		want := other
		require.Len(t, batch, 1)
		require.Equal(t, want, batch[0].Event, "whole")
		return nil
	})
	require.NoError(t, err)

	seqs, _ = scan(t, c, natsstream.ScanConfig{Since: time.Now().Add(time.Hour)})
	require.Empty(t, seqs)
	seqs, _ = scan(t, c, natsstream.ScanConfig{Until: did.Oldest})
	require.Empty(t, seqs)
	seqs, _ = scan(t, c, natsstream.ScanConfig{Since: did.Oldest, Until: time.Now().Add(time.Hour)})
	require.Len(t, seqs, 599)

	stream, err := srv.JetStream().Stream(t.Context(), "EVENTS")
	require.NoError(t, err)
	info, err := stream.Info(t.Context())
	require.NoError(t, err)
	require.Zero(t, info.State.Consumers, "no consumer stays behind")
}

func TestScanLeavesOutWhatIsBeingDelivered(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	require.NoError(t, ready(t, c).Append(t.Context(), events(1, 5)))
	feed, err := c.Feed(t.Context(), natsstream.FeedConfig{})
	require.NoError(t, err)
	defer feed.Close()
	for range 3 {
		batch, err := feed.Next(t.Context(), 1)
		require.NoError(t, err)
		if batch[0].Seq < 3 {
			require.NoError(t, feed.Ack(t.Context(), batch[0]))
		}
	}
	require.Eventually(t, func() bool {
		seqs, did := scan(t, c, natsstream.ScanConfig{})
		return len(seqs) == 2 && did.Open == 3
	}, 10*time.Second, 10*time.Millisecond)
}

func TestScanEndsWithItsReader(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	require.NoError(t, ready(t, c).Append(t.Context(), events(1, 500)))
	calls, full := 0, errors.New("the disk is full")
	_, err := c.Scan(t.Context(), natsstream.ScanConfig{Type: "thing.updated"}, func([]relay.StreamMessage) error {
		calls++
		return full
	})
	require.ErrorIs(t, err, full)
	require.Equal(t, 1, calls)
}
