package filters_test

import (
	"fmt"

	"github.com/dot-do/relay/filters"
)

func Example() {
	f, err := filters.Compile([]byte(`{"status": "paid", "items": [{"sku": "A1"}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(f.Match([]byte(`{"id": 7, "status": "paid", "items": [{"sku": "B2"}, {"sku": "A1", "qty": 3}]}`)))
	fmt.Println(f.Match([]byte(`{"id": 8, "status": "open", "items": []}`)))
	// Output:
	// yes
	// no
}

// The WAL did not carry the column content of this row, because the update left it alone.
func ExampleFilter_MatchDoc() {
	row := filters.NewDoc([]byte(`{"id": 7, "kind": "page"}`), []string{"content"})
	for _, src := range []string{`{"kind": "page"}`, `{"kind": "page", "content": "x"}`, `{"kind": "post", "content": "x"}`} {
		f, err := filters.Compile([]byte(src))
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(f, f.MatchDoc(row))
	}
	// Output:
	// {"kind":"page"} yes
	// {"content":"x","kind":"page"} unknown
	// {"content":"x","kind":"post"} no
}

func ExampleCompile() {
	_, err := filters.Compile([]byte(`{"total": {"$gtee": 10}}`))
	fmt.Println(err)
	// Output:
	// invalid filter: unknown_operator at /total/$gtee: "$gtee" is not an operator (did you mean $gte?)
}

// Only the update that pays an order above 100 is wanted.
func ExampleFilter_MatchEvent() {
	f, err := filters.Compile([]byte(`{"status": {"$from": "open", "$to": "paid"}, "total": {"$gt": 100}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	before := filters.NewDoc([]byte(`{"status": "open", "total": 120}`), nil)
	for _, after := range []string{`{"status": "paid", "total": 120}`, `{"status": "void", "total": 120}`} {
		fmt.Println(f.MatchEvent(&filters.Event{Op: filters.OpUpdate, Data: filters.NewDoc([]byte(after), nil), Before: before}))
	}
	fmt.Println(f.MatchEvent(&filters.Event{Op: filters.OpInsert, Data: before}))
	// Output:
	// yes
	// no
	// no
}

func ExampleFilter_Explain() {
	f, err := filters.Compile([]byte(`{"status": "paid", "total": {"$gt": 100}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	why := f.Explain(&filters.Event{Data: filters.NewDoc([]byte(`{"status": "paid", "total": 99.50}`), nil)})
	fmt.Println(why.Verdict, why.Text)
	for _, part := range why.Parts {
		fmt.Println(part.Verdict, part.Text, "-", part.Why)
	}
	// Output:
	// no all of
	// yes status $eq "paid" - is "paid"
	// no total $gt 100 - is 99.50
}

func ExampleFilter_Warnings() {
	f, err := filters.Compile([]byte(`{"total": {"$gt": 5, "$lt": 3}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, w := range f.Warnings() {
		fmt.Println(w.Code, w.Pointer, w.Message)
	}
	fmt.Println(f.UnknownPaths([]byte(`{"type": "object", "properties": {"status": {}}}`)))
	// Output:
	// never_matches /total/$lt no value satisfies both $gt 5 and $lt 3
	// [total]
}
