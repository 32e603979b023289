package relay

import "time"

// TimeLayout is RFC 3339 in UTC with microseconds, which is what Postgres keeps.
const TimeLayout = "2006-01-02T15:04:05.000000Z"

// AppendTime appends t in TimeLayout, as t.UTC().AppendFormat would. Every event has
// its time three times over, in the body and in the headers, so it must not be dear.
func AppendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(dst, TimeLayout)
	}
	hour, minute, second := t.Clock()
	dst = appendTwo(appendTwo(dst, year/100), year%100)
	dst = appendTwo(append(dst, '-'), int(month))
	dst = appendTwo(append(dst, '-'), day)
	dst = appendTwo(append(dst, 'T'), hour)
	dst = appendTwo(append(dst, ':'), minute)
	dst = appendTwo(append(dst, ':'), second)
	micros := t.Nanosecond() / 1000
	dst = appendTwo(append(dst, '.'), micros/10000)
	dst = appendTwo(dst, micros/100%100)
	return append(appendTwo(dst, micros%100), 'Z')
}

// appendTwo writes a number of two digits.
func appendTwo(dst []byte, n int) []byte {
	return append(dst, byte('0'+n/10), byte('0'+n%10))
}

func appendTime(dst []byte, t time.Time) []byte {
	return append(AppendTime(append(dst, '"'), t), '"')
}
