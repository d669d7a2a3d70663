package srs_test

var vectors = []struct {
	from string
	day  int64 // since 1970
	srs  string
}{
	{"anna@source.example", 20783, "SRS0=QWH9XZmv=JP=source.example=anna"},
	{"A.Mixed+Tag@Source.Example", 20783, "SRS0=7fpy4xVy=JP=Source.Example=A.Mixed+Tag"},
	{"SRS0=abcd=2W=far.example=x@other.example", 20783, "SRS1=XvbBNiGy=other.example==abcd=2W=far.example=x"},
	{"SRS1=abcdefgh=first.example==abcd=2W=far.example=x@other.example", 20783, "SRS1=r83eErEb=first.example==abcd=2W=far.example=x"},
	{"anna@source.example", 20000, "SRS0=bE+Doip5=RA=source.example=anna"},
	{"A.Mixed+Tag@Source.Example", 20000, "SRS0=aVwJrplD=RA=Source.Example=A.Mixed+Tag"},
	{"SRS0=abcd=2W=far.example=x@other.example", 20000, "SRS1=XvbBNiGy=other.example==abcd=2W=far.example=x"},
	{"SRS1=abcdefgh=first.example==abcd=2W=far.example=x@other.example", 20000, "SRS1=r83eErEb=first.example==abcd=2W=far.example=x"},
	{"anna@source.example", 0, "SRS0=5zQkW3fW=AA=source.example=anna"},
	{"A.Mixed+Tag@Source.Example", 0, "SRS0=BsHPsIbb=AA=Source.Example=A.Mixed+Tag"},
	{"SRS0=abcd=2W=far.example=x@other.example", 0, "SRS1=XvbBNiGy=other.example==abcd=2W=far.example=x"},
	{"SRS1=abcdefgh=first.example==abcd=2W=far.example=x@other.example", 0, "SRS1=r83eErEb=first.example==abcd=2W=far.example=x"},
}
