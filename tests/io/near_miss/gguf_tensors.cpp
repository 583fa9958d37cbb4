// expect: temporary: give the file a name
#include <moe/io/gguf_file.hpp>

#ifdef MOE_MISTAKE
auto use() { return moe::GgufFile::open("weights").tensors()[0].rows(); }
#else
auto use() {
    const auto file = moe::GgufFile::open("weights");
    return file.tensors()[0].rows();
}
#endif
