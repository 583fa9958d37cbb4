// expect: temporary: give the file a name
#include <moe/io/safetensors.hpp>

#ifdef MOE_MISTAKE
auto use() { return *moe::SafetensorsFile::open("weights").at("w").bytes.data(); }
#else
auto use() {
    const auto file = moe::SafetensorsFile::open("weights");
    return *file.at("w").bytes.data();
}
#endif
