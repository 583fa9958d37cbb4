// expect: temporary: give the file a name
#include <moe/io/packed_file.hpp>

#ifdef MOE_MISTAKE
auto use() { return moe::PackedFile::open("experts").experts<moe::Int8>(moe::Gated<moe::Silu>{}).n_experts(); }
#else
auto use() {
    const auto file = moe::PackedFile::open("experts");
    return file.experts<moe::Int8>(moe::Gated<moe::Silu>{}).n_experts();
}
#endif
