import java.util.ArrayList;
import java.util.List;

/** Uses what the JVM does with SIGSEGV when all is well; then, if told so, waits for one that is not. */
public class Crash {
    static class Box { int value; }
    static Box none;

    static int depth(int n) { return depth(n + 1) + 1; }

    public static void main(String[] arguments) throws Exception {
        int caught = 0;
        for (int i = 0; i < 20000; i++) {
            try {
                caught += none.value;
            } catch (NullPointerException e) {
                caught++;
            }
        }
        List<String> list = new ArrayList<>();
        for (int i = 0; i < 100000; i++)
            list.add("text " + i);
        try {
            depth(0);
        } catch (StackOverflowError e) {
            caught++;
        }
        System.out.println(caught + " " + list.size());
        if (arguments.length > 0) {
            new ProcessBuilder("kill", "-SEGV", "" + ProcessHandle.current().pid()).start().waitFor();
            Thread.sleep(60000);
        }
    }
}
