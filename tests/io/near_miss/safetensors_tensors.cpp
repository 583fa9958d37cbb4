// expect: temporary: give the file a name
#include <moe/io/safetensors.hpp>

#ifdef MOE_MISTAKE
auto use() { return *moe::SafetensorsFile::open("weights").tensors()[0].bytes.data(); }
#else
auto use() {
    const auto file = moe::SafetensorsFile::open("weights");
    return *file.tensors()[0].bytes.data();
}
#endif
