// Runs the filter of docs/how-to/verify-the-gateway.md, which stands below, before a servlet that returns the assertion.
import java.io.IOException;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.security.*;
import java.security.spec.X509EncodedKeySpec;
import java.util.*;
import javax.servlet.*;
import javax.servlet.http.*;
import com.fasterxml.jackson.databind.*;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.servlet.*;
import org.springframework.stereotype.Component;
import org.springframework.web.filter.OncePerRequestFilter;

class App {
    public static void main(String[] arguments) throws Exception {
        var handler = new ServletContextHandler();
        handler.addFilter(new FilterHolder(new FromTheGatewayOnly()), "/*", EnumSet.of(DispatcherType.REQUEST));
        handler.addServlet(new ServletHolder(new HttpServlet() {
            @Override
            protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
                response.getWriter().print(request.getHeader("X-Auth-Assertion"));
            }
        }), "/");
        var server = new Server(new java.net.InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])));
        server.setHandler(handler);
        server.start();
        server.join();
    }
}

