// expect: temporary: give the file a name
#include <moe/io/gguf_file.hpp>

#ifdef MOE_MISTAKE
auto use() { return *moe::GgufFile::open("weights").find("w")->bytes.data(); }
#else
auto use() {
    const auto file = moe::GgufFile::open("weights");
    return *file.find("w")->bytes.data();
}
#endif
