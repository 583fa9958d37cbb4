// Packed experts of a user's form, written and read by a user's executor.

#include <filesystem>
#include <string>

#include <moe/io.hpp>

#include "guest.hpp"

namespace guest {

void use_io(Report& result) {
    const Data<float> data;
    const moe::PackedExperts<moe::Int8, Form> packed(moe::ExpertBank<float, Form>({}, data.weights()), Executor{});
    const std::string path = (std::filesystem::temp_directory_path() / "moe_guest_test.moe").string();
    moe::write_packed(path, packed, Executor{});
    const moe::PackedFile file = moe::PackedFile::open(path, moe::Verify::all, Executor{});
    result.expect(file.experts<moe::Int8>(Form{}).n_experts() == data.n_experts, "experts of a file");
    std::filesystem::remove(path);
}

}  // namespace guest
