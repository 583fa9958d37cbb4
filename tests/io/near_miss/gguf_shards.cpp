// expect: temporary: give the file a name
#include <moe/io/gguf_shards.hpp>

#ifdef MOE_MISTAKE
auto use() { return *moe::GgufShards::open("weights").at("w").bytes.data(); }
#else
auto use() {
    const auto model = moe::GgufShards::open("weights");
    return *model.at("w").bytes.data();
}
#endif
