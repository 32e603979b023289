package relay_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

func TestTimesAreWrittenAsTheStandardLibraryWritesThem(t *testing.T) {
	zone := time.FixedZone("", -3*3600-1800)
	rng := rand.New(rand.NewPCG(1, 2))
	times := []time.Time{
		{},
		time.Unix(0, 0), time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		time.Date(-1, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 2, 28, 23, 30, 0, 1000, zone),
	}
	for range 20_000 {
		times = append(times, time.Unix(rng.Int64N(400_000_000_000)-80_000_000_000, rng.Int64N(1_000_000_000)).In(zone))
	}
	for _, at := range times {
		require.Equal(t, at.UTC().Format(relay.TimeLayout), string(relay.AppendTime(nil, at)))
	}
}

func BenchmarkAppendTime(b *testing.B) {
	at, buf := time.UnixMicro(1_795_000_000_123_456), make([]byte, 0, 64)
	b.Run("AppendTime", func(b *testing.B) {
		for b.Loop() {
			buf = relay.AppendTime(buf[:0], at)
		}
	})
	b.Run("AppendFormat", func(b *testing.B) {
		for b.Loop() {
			buf = at.UTC().AppendFormat(buf[:0], relay.TimeLayout)
		}
	})
}
