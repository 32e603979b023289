package faults

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/failpoint"
	"github.com/dot-do/relay/internal/faultproxy"
)

// rounds is how often a fault is repeated: once in the short part of the matrix.
func rounds(n int) int {
	if whole {
		return n
	}
	return 1
}

// TestAKillAtAnyPlaceLosesAndDoublesNothing lets the relay kill itself at each place
// of the way to the stream and back to the slot, some passages after its start, and
// starts it again, while others write.
func TestAKillAtAnyPlaceLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	for i, tc := range []struct {
		place  string
		rounds int
		within int // passages until the kill, at most
	}{
		{failpoint.BeforePublish, 4, 20},
		{failpoint.Sent, 5, 120},
		{failpoint.BeforeAck, 6, 120},
		{failpoint.BeforeCheckpoint, 4, 2},
		{failpoint.BeforeConfirm, 4, 2},
		{failpoint.BeforeFeedback, 4, 3},
		{failpoint.Sent, 3, 60},
		{failpoint.BeforeAck, 3, 30},
	} {
		batches := "fast"
		if i >= 6 {
			batches = "atomic"
		}
		t.Run(tc.place+" "+batches, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, options{})
			s.env["RELAY_NATS_BATCHES"] = batches
			s.start().stop() // what is committed before the first start is before the promise
			load := s.startLoad(2, 10*time.Millisecond)
			for range rounds(tc.rounds) {
				at := 1 + rand.IntN(tc.within)
				p := s.launch(fmt.Sprintf("RELAY_FAILPOINTS=%s=kill@%d", tc.place, at))
				require.Equal(t, -1, p.exited(arrivesWithin), "it kills itself: %s", p.log())
			}
			p := s.start()
			load.await(5)
			load.check()
			p.stop()
		})
	}
}

// TestAKillInsideATransactionGoesOnAtTheNextRow is about one transaction of many
// batches, killed three times where it hurts: messages are stored that no checkpoint
// names.
func TestAKillInsideATransactionGoesOnAtTheNextRow(t *testing.T) {
	t.Parallel()
	const rows = 5000
	s := newStack(t, options{})
	s.start().stop()
	s.db.Exec(`insert into things (ns, id, type, content) select 'big', i, 'Skill', $1 from generate_series(1, $2::int) i`, s.canary, rows)
	for _, rule := range []string{failpoint.Sent + "=kill@700", failpoint.BeforeAck + "=kill@1100", failpoint.Sent + "=kill@1500"} {
		p := s.launch("RELAY_FAILPOINTS=" + rule)
		require.Equal(t, -1, p.exited(arrivesWithin), p.log())
	}
	require.Positive(t, s.length())
	require.Less(t, s.length(), uint64(rows), "the kills were inside the transaction")
	p := s.start()
	s.settle()
	want := make([]string, rows)
	for i := range want {
		want[i] = fmt.Sprintf("thing.created big/%d", i+1)
	}
	requireSame(s, want, names(s.read(), "big"))
	p.stop()
}

// TestALostAcknowledgementIsRecognised cuts the answers of the server at random
// places: what it stored is found at the stream's end and not sent again.
func TestALostAcknowledgementIsRecognised(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{natsNet: true})
	p := s.start()
	load := s.startLoad(2, 10*time.Millisecond)
	for range rounds(8) {
		load.await(5)
		s.natsNet.CutAfter(faultproxy.Down, 1+rand.IntN(3000))
	}
	load.await(10)
	load.check()
	require.Positive(t, p.metric("relay_session_restarts_total"), "the cuts were felt")
	p.stop()
}
