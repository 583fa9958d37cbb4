// expect: temporary: give it a name, its elements are read later
#include <moe/io/safetensors.hpp>
#include <vector>

std::vector<std::byte> read();

#ifdef MOE_MISTAKE
auto use() { return moe::SafetensorsFile::parse(read()); }
#else
auto use(const std::vector<std::byte>& bytes) { return moe::SafetensorsFile::parse(bytes); }
#endif
