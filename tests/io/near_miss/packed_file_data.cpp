// expect: temporary: give the file a name
#include <moe/io/packed_file.hpp>

#ifdef MOE_MISTAKE
auto use() { return moe::PackedFile::open("experts").data()[0]; }
#else
auto use() {
    const auto file = moe::PackedFile::open("experts");
    return file.data()[0];
}
#endif
