package pgoutput_test

import (
	"fmt"

	"github.com/dot-do/relay/relay/pgoutput"
)

func ExampleDecoder() {
	// What a walsender sent, without the frames.
	stream := [][]byte{
		[]byte("B\x00\x00\x00\x00\x01\x6b\x37\x48\x00\x03\x03\xec\x69\xac\xa2\x40\x00\x00\x02\xeb"),
		[]byte("R\x00\x00\x40\x01public\x00things\x00d\x00\x02" +
			"\x01id\x00\x00\x00\x00\x14\xff\xff\xff\xff" + "\x00title\x00\x00\x00\x00\x19\xff\xff\xff\xff"),
		[]byte("I\x00\x00\x40\x01N\x00\x02t\x00\x00\x00\x017t\x00\x00\x00\x05hello"),
		[]byte("D\x00\x00\x40\x01K\x00\x02t\x00\x00\x00\x017n"),
	}

	var d pgoutput.Decoder
	relations := map[uint32]*pgoutput.Relation{}
	for _, b := range stream {
		m, err := d.Decode(b)
		if err != nil {
			fmt.Println(err)
			return
		}
		switch m := m.(type) {
		case *pgoutput.Begin:
			fmt.Println("transaction", m.XID)
		case *pgoutput.Relation:
			relations[m.OID] = m // a Relation may be kept; rows may not
		case *pgoutput.Insert:
			for i, v := range m.New {
				column := relations[m.RelationOID].Columns[i]
				fmt.Printf("insert %s = %q\n", column.Name, v.Data)
			}
		case *pgoutput.Delete:
			fmt.Printf("delete where id = %q\n", m.Old[0].Data)
		}
	}
	// Output:
	// transaction 747
	// insert id = "7"
	// insert title = "hello"
	// delete where id = "7"
}
