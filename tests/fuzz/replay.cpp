#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "fuzz/support.hpp"

// Runs a target without libFuzzer: replay FOLDER [MUTATIONS]. Each file of the folder, all its truncations, and as many
// mutations of each as said, the same on every machine. What does not hold in a target ends the program; a file of the
// folder that the target refuses, unless its name begins with "refused", fails.

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Bytes = std::vector<std::uint8_t>;

/// In memory that ends where the bytes do, so that sanitizers see a step beyond.
void run(const Bytes& bytes) {
    const auto exact = std::make_unique<std::uint8_t[]>(bytes.size());
    std::copy(bytes.begin(), bytes.end(), exact.get());
    (void)LLVMFuzzerTestOneInput(exact.get(), bytes.size());
}

Bytes bytes_of(const std::filesystem::path& path) {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

/// Changes of bytes, drawn alike everywhere: the standard says what mt19937_64 gives, not what distributions make of
/// it.
class Mutator {
public:
    explicit Mutator(const std::vector<Bytes>& corpus) : corpus_(corpus) {}

    Bytes mutated(Bytes bytes) {
        for (std::size_t n = 1 + below(4); n > 0; --n) {
            change(bytes);
        }
        return bytes;
    }

private:
    std::size_t below(std::size_t limit) { return limit == 0 ? 0 : static_cast<std::size_t>(random_() % limit); }

    static Bytes::iterator at(Bytes& bytes, std::size_t i) { return bytes.begin() + static_cast<std::ptrdiff_t>(i); }

    void change(Bytes& bytes) {
        if (bytes.empty()) {
            bytes.push_back(static_cast<std::uint8_t>(below(256)));
            return;
        }
        const std::size_t where = below(bytes.size());
        switch (below(7)) {
            case 0: bytes[where] ^= static_cast<std::uint8_t>(1U << below(8)); break;
            case 1: bytes[where] = static_cast<std::uint8_t>(below(256)); break;
            case 2: bytes.insert(at(bytes, where), static_cast<std::uint8_t>(below(256))); break;
            case 3:
                bytes.erase(at(bytes, where), at(bytes, where + 1 + below((std::min)(bytes.size() - where, most))));
                break;
            case 4: insert(bytes, where, bytes); break;
            case 5: insert(bytes, where, corpus_[below(corpus_.size())]); break;
            default: put_number(bytes, where); break;
        }
    }

    /// A piece of `source`, between the bytes or over them.
    void insert(Bytes& bytes, std::size_t where, const Bytes& source) {
        const std::size_t first = below(source.size());
        const std::size_t count = (std::min)(source.size() - first, 1 + below(most));
        const Bytes piece(source.begin() + static_cast<std::ptrdiff_t>(first),
                          source.begin() + static_cast<std::ptrdiff_t>(first + count));
        if (below(2) == 0) {
            bytes.insert(at(bytes, where), piece.begin(), piece.end());
        } else {
            std::copy_n(piece.begin(), (std::min)(piece.size(), bytes.size() - where), at(bytes, where));
        }
    }

    /// A number at which sums and products wrap, or one beside it.
    void put_number(Bytes& bytes, std::size_t where) {
        constexpr std::array<std::uint64_t, 10> numbers{0,          0x7F,       0xFF,        0x7FFF,      0x7FFFFFFF,
                                                        0xFFFFFFFF, 0x40000000, 1ULL << 61U, 1ULL << 63U, ~0ULL};
        std::uint64_t number = numbers[below(numbers.size())] + below(3) - 1;
        const std::size_t width = (std::min)(std::size_t{1} << below(4), bytes.size() - where);
        for (std::size_t i = 0; i < width; ++i, number >>= 8U) {
            bytes[where + i] = static_cast<std::uint8_t>(number & 0xFFU);
        }
    }

    static constexpr std::size_t most = 32;  // bytes that one change moves

    const std::vector<Bytes>& corpus_;
    std::mt19937_64 random_{20240229};
};

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        (void)std::fprintf(stderr, "usage: replay FOLDER [MUTATIONS]\n");
        return 2;
    }
    const std::size_t n_mutations = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 2000;
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
        paths.push_back(entry.path());
    }
    std::sort(paths.begin(), paths.end());
    std::vector<Bytes> corpus;
    std::transform(paths.begin(), paths.end(), std::back_inserter(corpus), bytes_of);
    if (corpus.empty()) {
        (void)std::fprintf(stderr, "replay: %s is empty\n", argv[1]);
        return 1;
    }
    std::size_t executions = 0;
    const auto counted = [&](const Bytes& bytes) {
        run(bytes);
        ++executions;
    };
    Mutator mutator(corpus);
    bool all_taken = true;
    for (std::size_t file = 0; file < corpus.size(); ++file) {
        const Bytes& bytes = corpus[file];
        const std::string name = paths[file].filename().string();
        moe_test::fuzz::taken = false;
        counted(bytes);
        if (moe_test::fuzz::taken == name.starts_with("refused")) {
            (void)std::fprintf(stderr, "replay: %s is %s\n", paths[file].string().c_str(),
                               moe_test::fuzz::taken ? "taken" : "refused");
            all_taken = false;
        }
        for (std::size_t size = 0; size < bytes.size(); ++size) {
            counted(Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)));
        }
        for (std::size_t i = 0; i < n_mutations; ++i) {
            counted(mutator.mutated(bytes));
        }
    }
    (void)std::printf("%zu inputs of %zu files\n", executions, corpus.size());
    return all_taken ? 0 : 1;
}
