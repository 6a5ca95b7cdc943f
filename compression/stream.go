package compression

func appendGzip(dst, src []byte, level int) ([]byte, error)          { return append(dst, src...), nil }
func appendXerial(dst, src []byte) []byte                            { return append(dst, src...) }
func appendLz4(dst, src []byte, level int) ([]byte, error)           { return append(dst, src...), nil }
func appendZstd(dst, src []byte, level int) ([]byte, error)          { return append(dst, src...), nil }
func decompressGzip(dst, src []byte, bytesMax int) ([]byte, error)   { return append(dst, src...), nil }
func decompressSnappy(dst, src []byte, bytesMax int) ([]byte, error) { return append(dst, src...), nil }
func decompressLz4(dst, src []byte, bytesMax int) ([]byte, error)    { return append(dst, src...), nil }
func decompressZstd(dst, src []byte, bytesMax int) ([]byte, error)   { return append(dst, src...), nil }
