#include <moe/io/checkpoint/weight_map.hpp>

#include <cstdint>
#include <filesystem>
#include <random>
#include <string>
#include <system_error>
#include <vector>

#include "fuzz/support.hpp"
#include "moe/io/safetensors_writer.hpp"

// An input is the text of a model.safetensors.index.json. The folder it stands in has the files a and b, with the
// tensors x and y and the tensor z.

namespace {

using namespace moe_test::fuzz;

/// A new folder, removed at the end.
class Folder {
public:
    Folder() {
        std::random_device random;
        do {
            path_ = std::filesystem::temp_directory_path() / ("moe-fuzz-" + std::to_string(random()));
        } while (!std::filesystem::create_directory(path_));
        const std::vector<std::byte> bytes(8);
        write("a", {{"x", moe::DType::u8, {8}, bytes}, {"y", moe::DType::f32, {2}, bytes}});
        write("b", {{"z", moe::DType::f64, {}, bytes}});
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }

    [[nodiscard]] std::string path() const { return path_.string(); }
    void put_index(Input text) const {
        std::FILE* const file = std::fopen((path_ / "model.safetensors.index.json").c_str(), "wb");
        confirm(
            file != nullptr && std::fwrite(text.data(), 1, text.size(), file) == text.size() && std::fclose(file) == 0,
            "the index can be written");
    }

private:
    void write(const char* name, const std::vector<moe::TensorToWrite>& tensors) const {
        moe::write_safetensors((path_ / name).string(), tensors);
    }

    std::filesystem::path path_;
};

/// How many tensors the files have; 0 where they cannot be opened.
std::size_t opened(const Folder& folder, moe::Strictness strictness) {
    std::size_t n_tensors = 0;
    (void)accepted([&] {
        for (const moe::SafetensorsFile& file : moe::detail::WeightMap(folder.path(), strictness).open()) {
            confirm(file.find("x") != nullptr || file.find("z") != nullptr, "no other files than those of the folder");
            n_tensors += file.tensors().size();
        }
    });
    return n_tensors;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Folder folder;
    folder.put_index(input_of(data, size));
    const std::size_t strict = opened(folder, moe::Strictness::strict);
    const std::size_t lenient = opened(folder, moe::Strictness::lenient);
    taken = lenient > 0;
    confirm(strict == 0 || strict == lenient, "lenient reading takes all that strict reading takes");
    confirm(lenient <= 3, "no file is opened twice");
    return 0;
}
