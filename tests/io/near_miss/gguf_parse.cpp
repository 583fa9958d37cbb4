// expect: temporary: give it a name, its elements are read later
#include <moe/io/gguf_file.hpp>
#include <vector>

std::vector<std::byte> read();

#ifdef MOE_MISTAKE
auto use() { return moe::GgufFile::parse(read()); }
#else
auto use(const std::vector<std::byte>& bytes) { return moe::GgufFile::parse(bytes); }
#endif
