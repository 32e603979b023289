package rig

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAQuantileIsASampleAtItsRank(t *testing.T) {
	require.InDelta(t, 2, Quantile([]float64{3, 1, 2}, 0.5), 0)
	require.InDelta(t, 3, Quantile([]float64{3, 1, 2}, 0.99), 0)
}

func TestProcTellsWhatThisProcessUses(t *testing.T) {
	require.Eventually(t, func() bool { // the reading itself is work
		used, err := CPUOf(os.Getpid())
		return err == nil && used > 0
	}, time.Minute, time.Microsecond)
	peak, err := PeakOf(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, peak, 1.0)
	m, err := NewMeter()
	require.NoError(t, err)
	others, err := m.Others(0)
	require.NoError(t, err)
	require.GreaterOrEqual(t, others, 0.0)
}

func TestAChildTellsWhatItSaidAndHowItEnded(t *testing.T) {
	c, err := Start(t.Context(), nil, "/bin/sh", "-c", "echo ready >&2; read line; exit 3")
	require.NoError(t, err)
	said, err := c.Await(t.Context(), "ready")
	require.NoError(t, err)
	require.Equal(t, "ready", said.Text)
	_, err = c.Await(t.Context(), "something else")
	require.ErrorContains(t, err, "sh ended before it said something else: ready")
	require.ErrorContains(t, c.Stop(), "exit status 3")
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	require.NoError(t, Wait(t.Context(), time.Nanosecond))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, Wait(ctx, time.Hour), context.Canceled)
}
