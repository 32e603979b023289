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
