package pgoutput_test

import (
	"bytes"
	"testing"

	"github.com/jackc/pglogrepl"

	"github.com/dot-do/relay/relay/pgoutput"
)

// benchTuple is a row of ten columns and about 360 bytes.
func benchTuple() []byte {
	document := bytes.Repeat([]byte(`{"k":"v"},`), 20)
	return wire(
		uint16(10),
		text("1234567"), text("3f2504e0-4f89-11d3-9a0c-0305e82c3301"), text("tenant-42"), text("Function"),
		text("A title of ordinary length"), 'n', text("t"), text(string(document)),
		text("2026-11-23 10:00:00.123456+00"), 'n',
	)
}

func BenchmarkDecodeInsert(b *testing.B) {
	benchmarkAgainstOracle(b, wire('I', uint32(16385), 'N', benchTuple()))
}

func BenchmarkDecodeUpdate(b *testing.B) {
	benchmarkAgainstOracle(b, wire('U', uint32(16385), 'O', benchTuple(), 'N', benchTuple()))
}

func benchmarkAgainstOracle(b *testing.B, message []byte) {
	b.Run("relay", func(b *testing.B) {
		var d pgoutput.Decoder
		b.SetBytes(int64(len(message)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := d.Decode(message); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("pglogrepl", func(b *testing.B) {
		b.SetBytes(int64(len(message)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := pglogrepl.Parse(message); err != nil {
				b.Fatal(err)
			}
		}
	})
}
