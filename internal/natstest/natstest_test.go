package natstest_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dot-do/relay/internal/natstest"
)

func TestMain(m *testing.M) {
	natstest.Main()
	goleak.VerifyTestMain(m)
}

func addOne(t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	_, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	require.NoError(t, err)
	ack, err := js.Publish(t.Context(), "s.x", []byte("x"))
	require.NoError(t, err)
	return ack.Sequence
}

func TestARestartKeepsURLAndStore(t *testing.T) {
	s := natstest.New(t)
	url := s.URL
	require.EqualValues(t, 1, addOne(t, s.JetStream()))
	s.Restart()
	require.Equal(t, url, s.URL)
	require.EqualValues(t, 2, addOne(t, s.JetStream()))
}

func TestAKilledProcessKeepsWhatItAcknowledged(t *testing.T) {
	p := natstest.NewProcess(t, "max_payload: 2MB")
	require.EqualValues(t, 1, addOne(t, p.JetStream()))
	p.Kill()
	_, err := nats.Connect(p.URL)
	require.Error(t, err)
	p.Start()
	require.EqualValues(t, 2, addOne(t, p.JetStream()))
	require.EqualValues(t, 2<<20, p.Connect().MaxPayload())
	p.Stop()
	p.Start()
	require.EqualValues(t, 3, addOne(t, p.JetStream()))
}

func TestAPausedProcessIsSilentUntilResumed(t *testing.T) {
	p := natstest.NewProcess(t)
	nc := p.Connect()
	p.Pause()
	require.ErrorIs(t, nc.FlushTimeout(100*time.Millisecond), nats.ErrTimeout)
	p.Resume()
	require.NoError(t, nc.FlushTimeout(10*time.Second))
}
