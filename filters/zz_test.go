package filters
import ("testing";"fmt";"time";"strings";"math/rand/v2")
func TestZWithheld(t *testing.T) {
	x := NewIndex[int]()
	for i := range 200_000 { x.Add(Key{Type:"t"}, compiled(t, `{"ns":"n%d","type":"t%d"}`, i%1000, i/1000), i) }
	x.Add(Key{Type:"t"}, compiled(t, `{"content":"x"}`), -1)
	var m Matches[int]
	for _, un := range [][]string{nil, {"content"}} {
		start := time.Now()
		for range 10 { x.Match(&m, "t", "", &Event{Op: OpUpdate, Data: NewDoc([]byte(`{"ns":"n1","type":"t1"}`), un)}) }
		fmt.Println("withheld", un, time.Since(start)/10, m.Yes, m.Unknown)
	}
}
// many routes at one pair, removal
func TestZPartners(t *testing.T) {
	x := NewIndex[int]()
	for s := range directMax { for i := range directMin { x.Add(Key{Type:"t"}, compiled(t, `{"d%d":%d}`, s, i), i) } }
	n := 100_000
	var fs []*Filter
	for i := range n { fs = append(fs, compiled(t, `{"a":"x","b":"y%d","c":{"$prefix":"%08d"}}`, i%7, i)) }
	start := time.Now()
	for i, f := range fs { x.Add(Key{Type:"t"}, f, i) }
	fmt.Println("add", time.Since(start)/time.Duration(n))
	r := rand.New(rand.NewPCG(1,2))
	r.Shuffle(n, func(i, j int) { fs[i], fs[j] = fs[j], fs[i] })
	start = time.Now()
	for i, f := range fs[:n/2] { _ = i; for v := range 1 { _ = v }; _ = f }
	k := 0
	for id, f := range fs { if k++; k > 5000 { break }; _ = id; var num int; fmt.Sscanf(strings.Split(f.String(), `"$prefix":"`)[1], "%08d", &num); if !x.Remove(Key{Type:"t"}, f, num) { t.Fatal(f) } }
	fmt.Println("remove", time.Since(start)/5000)
}
// shapes that differ, under one access
func TestZShapes(t *testing.T) {
	x := NewIndex[int]()
	n := 20000
	start := time.Now()
	for i := range n { x.Add(Key{Type:"t"}, compiled(t, `{"a":"x","k%d":{"$exists":true}}`, i), i) }
	fmt.Println("shapes add", time.Since(start)/time.Duration(n))
	var m Matches[int]
	start = time.Now()
	x.Match(&m, "t", "", &Event{Op: OpUpdate, Data: NewDoc([]byte(`{"a":"x","k7":1}`), nil)})
	fmt.Println("shapes match", time.Since(start), m.Yes)
	start = time.Now()
	for i := range n { x.Remove(Key{Type:"t"}, compiled(t, `{"a":"x","k%d":{"$exists":true}}`, i), i) }
	fmt.Println("shapes remove", time.Since(start)/time.Duration(n))
}
// intervals with equal low
func TestZIntervals(t *testing.T) {
	x := NewIndex[int]()
	n := 100000
	start := time.Now()
	for i := range n { x.Add(Key{Type:"t"}, compiled(t, `{"a":{"$lt":%d}}`, i), i) }
	fmt.Println("intervals add", time.Since(start)/time.Duration(n))
	start = time.Now()
	for i := range 500 { x.Remove(Key{Type:"t"}, compiled(t, `{"a":{"$lt":%d}}`, i*100), i*100) }
	fmt.Println("intervals remove", time.Since(start)/500)
	var m Matches[int]
	start = time.Now()
	for range 100 { x.Match(&m, "t", "", &Event{Op: OpUpdate, Data: NewDoc([]byte(`{"a":99990}`), nil)}) }
	fmt.Println("intervals match", time.Since(start)/100, len(m.Yes))
	start = time.Now()
	for range 100 { x.Match(&m, "t", "", &Event{Op: OpUpdate, Data: NewDoc([]byte(`{"b":99990}`), nil)}) }
	fmt.Println("intervals match no", time.Since(start)/100, len(m.Yes))
	// same 8 byte prefix
	x = NewIndex[int]()
	for i := range n { x.Add(Key{Type:"t"}, compiled(t, `{"a":{"$gt":"2026-11-23T%06d","$lt":"2026-11-23T%06d"}}`, i, i+1), i) }
	start = time.Now()
	for range 5 { x.Match(&m, "t", "", &Event{Op: OpUpdate, Data: NewDoc([]byte(`{"a":"2026-11-23T000007z"}`), nil)}) }
	fmt.Println("timestamps match", time.Since(start)/5, m.Yes)
}
