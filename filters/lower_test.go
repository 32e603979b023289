package filters

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// showCond writes a condition as a term, with its path instead of an index.
func showCond(p *program, c *cond) string {
	names := [...]string{
		"all", "any", "not", "equal", "object", "array", "exactly", "differs", "above", "atLeast", "below", "atMost",
		"in", "notIn", "prefix", "suffix", "substring", "present", "absent", "opIs", "hadRow", "changed", "changedBeside",
	}
	var args []string
	of := func(list []path, indexes []bool, at int) string {
		return strings.TrimSuffix("/"+strings.Join(list[at], "/"), "/") + strings.Repeat("#", map[bool]int{true: 1}[at < len(indexes) && indexes[at]])
	}
	switch c.op {
	case condAll, condAny, condNot:
		for i := range c.subs {
			args = append(args, showCond(p, &c.subs[i]))
		}
	case condOpIs:
		for op := OpInsert; op <= OpRead; op++ {
			if c.ops.has(op) {
				args = append(args, op.String())
			}
		}
	case condHadRow:
	case condChanged:
		for _, pair := range c.rows.changed {
			data, old := of(p.data, p.dataIndexes, pair.data), of(p.old, p.oldIndexes, pair.old)
			if data != old {
				data += "!=" + old
			}
			args = append(args, data)
		}
	case condChangedBeside:
		for i := range c.rows.beside {
			args = append(args, of(c.rows.beside, nil, i))
		}
	default:
		if c.old {
			args = append(args, "old"+of(p.old, p.oldIndexes, c.at))
		} else {
			args = append(args, of(p.data, p.dataIndexes, c.at))
		}
		if c.with.kind != invalid {
			args = append(args, string(c.with.appendText(nil)))
		}
		for i := range c.list {
			args = append(args, string(c.list[i].appendText(nil)))
		}
		if c.elements != nil {
			for i := range c.elements.scalars {
				args = append(args, string(c.elements.scalars[i].appendText(nil)))
			}
			for i := range c.elements.filters {
				args = append(args, "{"+showCond(&c.elements.filters[i], &c.elements.filters[i].root)+"}")
			}
		}
	}
	return names[c.op] + "(" + strings.Join(args, " ") + ")"
}

func TestAFilterIsLoweredToTheseConditions(t *testing.T) {
	for src, want := range map[string]string{
		`{}`:                             `all()`,
		`{"$and":[{}]}`:                  `all()`,
		`{"a":1}`:                        `equal(/a 1)`,
		`{"b":null,"a":"x"}`:             `all(equal(/a "x") equal(/b null))`,
		`{"a":{"$eq":1}}`:                `equal(/a 1)`,
		`{"a":{"$eq":[2,1,2]}}`:          `exactly(/a [2,1,2])`,
		`{"a":{"$eq":{"$$b":{}}}}`:       `exactly(/a {"$$b":{}})`,
		`{"a":{"$ne":{}}}`:               `differs(/a {})`,
		`{"a":{"$gt":1,"$lte":"x"}}`:     `all(above(/a 1) atMost(/a "x"))`,
		`{"a":{"$gte":1,"$lt":2}}`:       `all(atLeast(/a 1) below(/a 2))`,
		`{"a":{"$in":[2,"x",null,2.0]}}`: `in(/a null 2 "x")`,
		`{"a":{"$nin":[1]}}`:             `notIn(/a 1)`,
		`{"a":{"$startsWith":"p","$endsWith":"s","$contains":"c"}}`: `all(substring(/a "c") prefix(/a "p") suffix(/a "s"))`,
		`{"a":{"$exists":true}}`:                                    `present(/a)`,
		`{"a":{"$exist":false}}`:                                    `absent(/a)`,

		// Objects are asked for where nothing else does.
		`{"a":{}}`:                      `object(/a)`,
		`{"a":{"b":1}}`:                 `equal(/a/b 1)`,
		`{"a":{"b":{"c":{}}}}`:          `object(/a/b/c)`,
		`{"a":{"b":{"$exists":false}}}`: `all(absent(/a/b) object(/a))`,
		`{"a":{"b":{"$exists":false},"c":{"$ne":1}}}`:              `all(absent(/a/b) differs(/a/c 1))`,
		`{"a":{"b":{"c":{"$exists":false}}}}`:                      `all(absent(/a/b/c) object(/a/b))`,
		`{"a":{"b":{"$not":{"c":1}}}}`:                             `all(not(equal(/a/b/c 1)) object(/a))`,
		`{"a":{"$not":{"b":1}}}`:                                   `not(equal(/a/b 1))`,
		`{"a":{"$not":{}}}`:                                        `not(object(/a))`,
		`{"a":{"$or":[{"b":1},{"c":2}],"d":[]}}`:                   `all(any(equal(/a/b 1) equal(/a/c 2)) array(/a/d))`,
		`{"a":{"$and":[{"$exists":true}],"b":{"$not":{"$gt":1}}}}`: `all(present(/a) not(above(/a/b 1)) object(/a))`,
		`{"$not":{"a":{"$exists":false}}}`:                         `not(absent(/a))`,
		`{"$not":{}}`:                                              `not(all())`,

		`{"a":[]}`:                     `array(/a)`,
		`{"a":["x",2,null,2]}`:         `array(/a null 2 "x")`,
		`{"a":[[1],{},{"x":1},[1,1]]}`: `array(/a {array( 1)} {equal(/x 1)} {object()})`,
		`{"a":[{"$prefix":"p"},{"x":{"$exists":false}}]}`: `array(/a {prefix( "p")} {all(absent(/x) object())})`,
		`{"a":[{"$or":[{"$gt":1},{"b":[{"c":2}]}]}]}`:     `array(/a {any(above( 1) array(/b {equal(/c 2)}))})`,

		`{"$and":[{"a":1},{"$and":[{"b":2},{"c":3}]}],"d":4}`: `all(equal(/b 2) equal(/c 3) equal(/a 1) equal(/d 4))`,
		`{"$or":[{"a":1}]}`:                   `equal(/a 1)`,
		`{"$or":[{"b":1,"a":2},{"a":1}]}`:     `any(equal(/a 1) all(equal(/a 2) equal(/b 1)))`,
		`{"n":{"$or":[{"$lt":1},{"$gt":5}]}}`: `any(above(/n 5) below(/n 1))`,

		`{"$op":"insert"}`:                                `opIs(insert)`,
		`{"$op":["update","insert"],"a":1}`:               `all(opIs(insert update) equal(/a 1))`,
		`{"$changed":["b.c","/a/x.y","l.0","l.00"]}`:      `changed(/a/x.y /b/c /l/0# /l/00)`,
		`{"$changed":["l.0"],"l":{"0":1}}`:                `all(changed(/l/0#) equal(/l/0 1))`,
		`{"$changed":{"outside":["u","a.b"]}}`:            `changedBeside(/a/b /u)`,
		`{"$before":{}}`:                                  `hadRow()`,
		`{"$before":{"a":1,"b":{"c":{"$exists":false}}}}`: `all(hadRow() equal(old/a 1) absent(old/b/c) object(old/b))`,
		`{"$before":{"$not":{"a":[{"b":1}]}},"a":1}`:      `all(hadRow() not(array(old/a {equal(/b 1)})) equal(/a 1))`,
		`{"a":{"$from":1,"$to":2}}`:                       `all(changed(/a) equal(old/a 1) equal(/a 2))`,
		`{"a":{"$from":1}}`:                               `all(changed(/a) equal(old/a 1))`,
		`{"a":{"$to":{"x":[1]},"$ne":3}}`:                 `all(differs(/a 3) changed(/a) array(/a/x 1))`,
		`{"a":{"b":{"$from":{}}}}`:                        `all(changed(/a/b) object(old/a/b) object(/a))`,
		`{"a":{"$not":{"$to":1}}}`:                        `not(all(changed(/a) equal(/a 1)))`,
	} {
		f, err := Compile([]byte(src))
		require.NoError(t, err, src)
		require.Equal(t, want, showCond(&f.program, &f.program.root), src)
		again, err := Compile([]byte(f.String()))
		require.NoError(t, err, src)
		require.Equal(t, f.String(), again.String(), src)
		require.Equal(t, want, showCond(&again.program, &again.program.root), f.String())
	}
}

func TestAProgramReadsEachValueOnce(t *testing.T) {
	f, err := Compile([]byte(`{"a":{"$gt":1,"$lt":5,"$from":2},"$before":{"a":2,"b":{"c":1}},"$changed":["a","b"]}`))
	require.NoError(t, err)
	require.Equal(t, []path{{"a"}, {"b"}}, f.program.data)
	require.Equal(t, []path{{"a"}, {"b", "c"}, {"b"}}, f.program.old)
}
