package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is an amount of data, written as Postgres writes it: 512kB, 64MB, 10GB, 1TB,
// each unit 1024 of the one before. A bare 0 is the only amount without a unit.
type Bytes int64

type byteUnit struct {
	suffix string
	size   int64
}

// byteUnits from large to small.
func byteUnits() []byteUnit {
	return []byteUnit{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}}
}

// UnmarshalText reads the text form.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "0" {
		*b = 0
		return nil
	}
	for _, unit := range byteUnits() {
		digits, ok := strings.CutSuffix(s, unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/unit.size {
			break
		}
		*b = Bytes(n * unit.size)
		return nil
	}
	return fmt.Errorf("%q is no amount of data", s)
}

// MarshalText returns the text form in the largest unit that is exact.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String returns the text form.
func (b Bytes) String() string {
	for _, unit := range byteUnits() {
		if b != 0 && int64(b)%unit.size == 0 {
			return strconv.FormatInt(int64(b)/unit.size, 10) + unit.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}
